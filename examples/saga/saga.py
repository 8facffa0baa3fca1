"""One saga: the steps of an order, one after the other; when one fails, those before it are undone in reverse.

It keeps nothing itself. Each step is a request whose message id names order and step, so it is asked once, whoever asks
again; and each reply is in the topic `replies`, whether or not somebody waited. So a saga that died is simply run again.
"""
import os
import sys
import grpc
from millstream.v1 import consume_pb2, consume_pb2_grpc, record_pb2, request_pb2, request_pb2_grpc

STEPS = [("reserve-stock", "release-stock"), ("charge-card", "refund-card"), ("book-courier", "cancel-courier")]

channel = grpc.insecure_channel(os.environ.get("MILLSTREAM_BROKER", "127.0.0.1:7171"))
requests = request_pb2_grpc.RequestServiceStub(channel)
consumer = consume_pb2_grpc.ConsumerServiceStub(channel)


def ask(order, step, timeout_ms=30_000):
    """Asks for a step and waits for its reply, of this request or of an earlier one: what it says, and if it failed."""
    name = f"{order}/{step}"
    headers = [record_pb2.Header(key="correlation-id", value=name.encode())]
    record = record_pb2.Record(key=order.encode(), value=f"{order} {step}".encode(), headers=headers, message_id=name)
    try:
        answer = requests.Request(request_pb2.RequestRequest(
            topic="steps", record=record, reply_topic="replies", timeout_ms=timeout_ms))
        return answer.reply.value.decode(), answer.HasField("failure")
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
            raise
        return reply_to(name)  # It was asked before: the reply is, or will be, where all replies are.


def reply_to(name):
    """Reads the replies from the first one on until the one to this request is there."""
    offset = 0
    while True:
        place = consume_pb2.FetchPosition(topic="replies", partition=0, offset=offset)
        fetched = consumer.Fetch(consume_pb2.FetchRequest(positions=[place], max_wait_ms=1_000)).partitions[0]
        for batch in fetched.batches:
            for record in batch.records.records:
                headers = {header.key: header.value.decode() for header in record.headers}
                if headers["correlation-id"] == name:
                    return record.value.decode(), "reply-failure" in headers
        offset = fetched.next_offset


def run(order, dies_after=None):
    done = []
    for step, undo in STEPS:
        if step == dies_after:
            try:
                ask(order, step, timeout_ms=1)
            except grpc.RpcError:
                pass
            sys.exit(f"{order}: died")
        says, failed = ask(order, step)
        if failed:
            for undo in reversed(done):
                ask(order, undo)
            return f"{order}: {step} failed, {says}; undone by {', '.join(reversed(done)) or 'nothing'}"
        done.append(undo)
    return f"{order}: complete"


print(run(sys.argv[1], sys.argv[3] if sys.argv[2:3] == ["--dies-after"] else None))
