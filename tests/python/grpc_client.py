"""A gRPC client of the Focus Server in another language. Prints one line of JSON for each thing it is asked.

grpc_client.py ADDRESS lines JOB STREAMS COUNT   the header and COUNT lines of each stream
grpc_client.py ADDRESS slow JOB [ROWS]           the header; when a line comes on stdin, all that follows; also says
                                                 when it has so many rows
grpc_client.py ADDRESS status STREAM [KEY=VALUE] how a call that gets no lines ends
grpc_client.py ADDRESS services                  what reflection and health tell

With CA in the environment, a file with the authority of the server's certificate, it speaks TLS.
"""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pandadatastream_pb2 as pb
import pandadatastream_pb2_grpc as service
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

# No call waits longer, s.
PATIENCE = 90
# The client takes no more than this ahead of its reader: a slow reader shows.
OPTIONS = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 16)]


def opened(address):
    if "CA" not in os.environ:
        return grpc.insecure_channel(address, OPTIONS)
    with open(os.environ["CA"], "rb") as authority:
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority.read()), OPTIONS)


def call(channel, stream, metadata):
    stub = service.DataStreamServiceStub(channel)
    request = pb.StreamDataRequest(stream_id=stream)
    return stub.StreamData(request, metadata=metadata, timeout=PATIENCE)


def told(message):
    """The message without its bytes: only how many there are, and what they add up to."""
    return {
        "channels": [message.start_channel, message.end_channel],
        "shape": [message.data_shape_x, message.data_shape_y, message.data_shape_z],
        "levels": [message.global_minimum, message.global_maximum],
        "rows": list(message.row_index),
        "times": list(message.timestamp_in_milis),
        "bytes": [len(row) for row in message.main_data],
        "sums": [sum(row) for row in message.main_data],
        "job_id": message.job_id,
    }


def ended(answer):
    trailers = {key: value for key, value in answer.trailing_metadata() if key.startswith("focus-")}
    return {"code": answer.code().name, "details": answer.details(), "trailers": trailers}


def lines(channel, job, streams, count):
    def read(stream):
        answer = call(channel, stream, [("job-id", job)])
        messages = [told(next(answer)) for _ in range(count + 1)]
        answer.cancel()
        return messages

    with ThreadPoolExecutor(int(streams)) as pool:
        return list(pool.map(read, range(streams)))


def slow(channel, job, say_at=0):
    answer = call(channel, 0, [("job-id", job)])
    print(json.dumps(told(next(answer))), flush=True)
    sys.stdin.readline()
    rows, lost = [], 0
    try:
        for message in answer:
            # What is missing is told with the next message, and shows in the numbers of the rows.
            gap = message.row_index[0] - (rows[-1] + 1 if rows else 0)
            assert gap == message.lost_rows, f"{gap} rows are missing, {message.lost_rows} are told"
            lost += message.lost_rows
            rows.extend(message.row_index)
            if len(rows) == say_at:
                print(json.dumps({"has": say_at}), flush=True)
    except grpc.RpcError:
        pass
    return {"rows": len(rows), "last": max(rows, default=None), "lost": lost, **ended(answer)}


def status(channel, stream, metadata):
    answer = call(channel, stream, metadata)
    try:
        return {"message": told(next(answer))}
    except grpc.RpcError:
        return ended(answer)


def services(channel):
    health = health_pb2_grpc.HealthStub(channel)
    asked = {name: health.Check(health_pb2.HealthCheckRequest(service=name), timeout=PATIENCE) for name in
             ("", "pandadatastream.DataStreamService")}
    names = {name: health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status) for name, answer in asked.items()}
    return {"health": names, "services": sorted(ProtoReflectionDescriptorDatabase(channel).get_services())}


def main(address, command, *args):
    with opened(address) as channel:
        match command:
            case "lines":
                found = lines(channel, args[0], int(args[1]), int(args[2]))
            case "slow":
                found = slow(channel, args[0], *map(int, args[1:]))
            case "status":
                found = status(channel, int(args[0]), [tuple(pair.split("=", 1)) for pair in args[1:]])
            case "services":
                found = services(channel)
        print(json.dumps(found), flush=True)


main(*sys.argv[1:])
