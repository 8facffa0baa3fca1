"""Appends each record once, however often the request is sent. Nothing but generated code."""
import sys
import grpc
from millstream.v1 import produce_pb2, produce_pb2_grpc, record_pb2, topic_pb2, topic_pb2_grpc

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7171"

with grpc.insecure_channel(ADDRESS) as channel:
    topic_pb2_grpc.TopicServiceStub(channel).CreateTopic(topic_pb2.CreateTopicRequest(name="once", partitions=1))
    stub = produce_pb2_grpc.ProducerServiceStub(channel)
    producer_id = stub.InitProducer(produce_pb2.InitProducerRequest()).producer_id
    sequence = 0
    for n in range(3):
        records = [record_pb2.Record(value=b"order %d" % n), record_pb2.Record(value=b"receipt %d" % n)]
        request = produce_pb2.ProduceRequest(
            topic="once", partition=0, records=record_pb2.RecordSet(records=records),
            producer_id=producer_id, base_sequence=sequence)
        stub.Produce(request, timeout=10)
        # As if that answer had been lost: the same request again, as often as it takes.
        again = stub.Produce(request, timeout=10).results[0]
        print(f"offset {again.base_offset}, a repeat: {again.duplicate}")
        sequence += len(records)
