#!/usr/bin/env bash
# A server's answer to a websocket ping does not show that its application has taken the messages before the ping.
#
# Guess: frames are worked on in order, so after the pong the application has all earlier messages; Prefect's client of
#   events takes a pong as the sign that they arrived.
# Behaviour: uvicorn queues all messages of a piece that it read, and answers a ping in the same piece at once. It reads
#   the next piece when the application has taken the last queued message. A second ping, sent after the first pong, is
#   therefore answered only then, and not at all if the application has failed.
# Versions: uvicorn 0.54.0, websockets 16.1.1
# Date: 2026-11-29
# Source: uvicorn/protocols/websockets/websockets_sansio_impl.py, `data_received` and `receive`
# Covered by: flows/orchestration/event_socket.py; tests/flows/orchestration/test_event_socket.py
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q uvicorn==0.54.0 websockets==16.1.1 2>/dev/null

"$work/venv/bin/python" - <<'TEST'
import asyncio
import socket

import uvicorn
from websockets.asyncio.client import connect

taken = []


async def application(scope, receive, send):
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        taken.append(message["text"])
        await asyncio.sleep(0.5)


async def main():
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    async with connect(f"ws://127.0.0.1:{listening.getsockname()[1]}/") as connection:
        for number in range(5):
            await connection.send(str(number))
        for name, expected in (("first", False), ("second", True)):
            await (await connection.ping())
            print(f"after the {name} pong the application has {len(taken)} of 5 messages")
            assert (len(taken) == 5) == expected, taken
    server.should_exit = True
    await serving


asyncio.run(main())
TEST
