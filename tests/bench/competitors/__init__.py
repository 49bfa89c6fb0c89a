"""Small applications on what people use for sessions today. They run in a virtual environment of their own."""
