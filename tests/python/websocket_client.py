"""A WebSocket client of the Focus Server. Prints the metadata when it has come, and what it has seen at the end.

websocket_client.py URL [ROWS]

With ROWS it also says when it has so many rows.

With CA in the environment, a file with the authority of the server's certificate, it trusts that.
"""

import json
import os
import ssl
import sys

import focus_pb2
from websockets.sync.client import connect


def main(url, say_at=0):
    rows, sums, lost = [], 0, 0
    tls = ssl.create_default_context(cafile=os.environ["CA"]) if "CA" in os.environ else None
    with connect(url, max_size=None, ssl=tls) as socket:
        print(json.dumps(json.loads(socket.recv())), flush=True)
        for message in socket:
            if isinstance(message, bytes):
                line = focus_pb2.Line.FromString(message)
                rows.append(line.index)
                sums += sum(line.intensities)
                if len(rows) == int(say_at):
                    print(json.dumps({"has": len(rows)}), flush=True)
            else:
                told = json.loads(message)
                lost += told.get("lost", 0)
                if "ended" in told:
                    found = {"rows": len(rows), "last": max(rows, default=None), "sums": sums, "lost": lost}
                    print(json.dumps({**found, **told}), flush=True)


main(*sys.argv[1:])
