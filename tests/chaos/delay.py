"""A TCP proxy that delays every byte: `python3 delay.py PORT ADDRESS PORT SECONDS`. It runs on the hosts, as it stands.

Kernels of containers may lack netem; a delay in user space needs nothing of them.
"""

import asyncio
import sys
from asyncio import StreamReader, StreamWriter


async def delayed(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """Pass on what arrives, each piece `seconds` after it came; pieces do not wait for one another."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            due, piece = await pieces.get()
            await asyncio.sleep(due - loop.time())
            if not piece:
                writer.close()
                break
            writer.write(piece)

    delivery = asyncio.create_task(deliver())
    try:
        while piece := await reader.read(65536):
            pieces.put_nowait((loop.time() + seconds, piece))
    except ConnectionError:
        pass
    pieces.put_nowait((loop.time() + seconds, b""))
    await delivery


async def main(port: int, address: str, target: int, seconds: float) -> None:
    """Serve until the unit is stopped."""

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(address, target)
        except OSError:
            writer.close()
            return
        # Half of the delay on the way there, half on the way back.
        await asyncio.gather(delayed(reader, far_writer, seconds / 2), delayed(far_reader, writer, seconds / 2))

    async with await asyncio.start_server(serve, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
