"""Flask with Flask-Session on Redis, as its documentation sets it up; served by gunicorn."""

from __future__ import annotations

import os
from typing import Any

import redis
from flask import Flask, Response, jsonify, request, session
from flask_session import Session

application = Flask(__name__)
application.config["SESSION_TYPE"] = "redis"
application.config["SESSION_REDIS"] = redis.Redis.from_url(os.environ["REDIS_URL"])
Session(application)


@application.post("/")
def fill() -> tuple[str, int]:
    """Fill the session with the attributes in the body: creates it, or changes single attributes."""
    attributes: dict[str, Any] = request.get_json()
    session.update(attributes)
    return "", 204


@application.get("/")
def read() -> Response:
    """The session's attributes."""
    return jsonify({name: value for name, value in session.items() if not name.startswith("_")})
