# SPDX-License-Identifier: Apache-2.0
"""A line with a latency and a rate between two ports of this machine, both ways alike.

usage: python slow_line.py FROM TO SECONDS BITS_A_SECOND

Every byte waits for the bytes before it to pass at the rate, then for the latency; TCP's own
slow start and losses are not played.
"""

import queue
import socket
import sys
import threading
import time

CHUNK = 1 << 14


def carry(near: socket.socket, far: socket.socket, latency: float, rate: float) -> None:
    """Brings what `near` says to `far`, late."""
    under_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def deliver() -> None:
        while True:
            due, data = under_way.get()
            time.sleep(max(0.0, due - time.perf_counter()))
            if not data:
                break
            far.sendall(data)
        far.shutdown(socket.SHUT_WR)

    threading.Thread(target=deliver, daemon=True).start()
    free = 0.0
    while True:
        data = near.recv(CHUNK)
        free = max(free, time.perf_counter()) + len(data) * 8 / rate
        under_way.put((free + latency, data))
        if not data:
            return


def main() -> None:
    here, there = (int(word) for word in sys.argv[1:3])
    latency, rate = (float(word) for word in sys.argv[3:5])
    with socket.create_server(("127.0.0.1", here)) as listening:
        while True:
            near, _ = listening.accept()
            far = socket.create_connection(("127.0.0.1", there))
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for pair in ((near, far), (far, near)):
                threading.Thread(target=carry, args=(*pair, latency, rate), daemon=True).start()


if __name__ == "__main__":
    main()
