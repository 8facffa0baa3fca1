"""Produces, consumes in a group, and goes on after reconnecting where it stopped. Nothing but generated code."""
import queue
import sys
import grpc
from millstream.v1 import consume_pb2, consume_pb2_grpc, produce_pb2, produce_pb2_grpc
from millstream.v1 import record_pb2, topic_pb2, topic_pb2_grpc

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7171"

def read(channel, count):
    """Joins the group, reads `count` records, commits them and leaves."""
    requests = queue.SimpleQueue()
    requests.put(consume_pb2.SubscribeRequest(open=consume_pb2.SubscribeRequest.Open(
        topics=["orders"], group="billing", start=record_pb2.Position(edge=record_pb2.EDGE_EARLIEST),
        credit=consume_pb2.Credit(records=count, bytes=1 << 20))))
    seen, done = 0, {}
    for response in consume_pb2_grpc.ConsumerServiceStub(channel).Subscribe(iter(requests.get, None)):
        for batch in response.records.batches:
            for offset, record in enumerate(batch.records.records, batch.base_offset):
                print(f"{response.records.partition}/{offset} {record.key.decode()} = {record.value.decode()}")
                seen, done[response.records.partition] = seen + 1, offset + 1
        if seen == count and done:
            offsets = [record_pb2.PartitionOffset(topic="orders", partition=p, offset=o) for p, o in done.items()]
            requests.put(consume_pb2.SubscribeRequest(commit=consume_pb2.SubscribeRequest.Commit(offsets=offsets)))
            done = {}
        if response.HasField("committed"):
            requests.put(None)  # Ends our side of the stream; the broker then ends its side.

with grpc.insecure_channel(ADDRESS) as channel:
    topic_pb2_grpc.TopicServiceStub(channel).CreateTopic(topic_pb2.CreateTopicRequest(name="orders", partitions=3))
    records = [record_pb2.Record(key=b"customer-%d" % (n % 3), value=b"order %d" % n) for n in range(10)]
    produce_pb2_grpc.ProducerServiceStub(channel).Produce(
        produce_pb2.ProduceRequest(topic="orders", records=record_pb2.RecordSet(records=records)))
    read(channel, 4)
print("-- connected again --")
with grpc.insecure_channel(ADDRESS) as channel:
    read(channel, 6)
