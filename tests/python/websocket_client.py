"""A WebSocket client of the Focus Server. Prints the metadata when it has come, and what it has seen at the end.

websocket_client.py URL
"""

import json
import sys

import focus_pb2
from websockets.sync.client import connect


def main(url):
    rows, sums, lost = [], 0, 0
    with connect(url, max_size=None) as socket:
        print(json.dumps(json.loads(socket.recv())), flush=True)
        for message in socket:
            if isinstance(message, bytes):
                line = focus_pb2.Line.FromString(message)
                rows.append(line.index)
                sums += sum(line.intensities)
            else:
                told = json.loads(message)
                lost += told.get("lost", 0)
                if "ended" in told:
                    found = {"rows": len(rows), "last": max(rows, default=None), "sums": sums, "lost": lost}
                    print(json.dumps({**found, **told}), flush=True)


main(*sys.argv[1:])
