"""Promises of the wire contract, seen from a language without a client library of ours.

Starts real broker processes (MILLSTREAM_BINARY names the binary) on free ports and temporary data directories.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from millstream.v1 import consume_pb2, consume_pb2_grpc
from millstream.v1 import dead_letter_pb2, dead_letter_pb2_grpc
from millstream.v1 import produce_pb2, produce_pb2_grpc
from millstream.v1 import queue_pb2, queue_pb2_grpc
from millstream.v1 import record_pb2
from millstream.v1 import topic_pb2, topic_pb2_grpc

HERE = pathlib.Path(__file__).parent
CALL_SECONDS_MAX = 30


class Broker:
    """A broker process on a free port. Its log is shown when a test fails to start it."""

    def __init__(self, data_dir):
        command = [os.environ["MILLSTREAM_BINARY"], "serve", "--data-dir", data_dir]
        command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.address = self._read_address()
        # Whatever it says later must be read, or it would block once the pipe is full.
        self.reader = threading.Thread(target=self.process.stderr.read, daemon=True)
        self.reader.start()
        self.channel = grpc.insecure_channel(self.address)
        grpc.channel_ready_future(self.channel).result(timeout=CALL_SECONDS_MAX)

    def _read_address(self):
        said = []
        for line in self.process.stderr:
            said.append(line)
            found = re.match(r"\s+gRPC\s+(\S+)$", line)
            if found:
                return found.group(1)
        raise AssertionError(f"the broker ended with {self.process.wait()} before it was ready:\n{''.join(said)}")

    def end(self, how=signal.SIGTERM):
        """Ends the process and answers its exit code."""
        self.channel.close()
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(timeout=CALL_SECONDS_MAX)
        self.reader.join()
        self.process.stderr.close()
        return code


class ClientTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="millstream-python-")
        self.addCleanup(directory.cleanup)
        self.data_dir = os.path.join(directory.name, "data")
        self.start()

    def start(self):
        self.broker = Broker(self.data_dir)
        self.addCleanup(self.broker.end, signal.SIGKILL)
        self.topics = topic_pb2_grpc.TopicServiceStub(self.broker.channel)
        self.producer = produce_pb2_grpc.ProducerServiceStub(self.broker.channel)
        self.consumer = consume_pb2_grpc.ConsumerServiceStub(self.broker.channel)

    def produce(self, topic, values, partition=0):
        records = record_pb2.RecordSet(records=[record_pb2.Record(value=value) for value in values])
        request = produce_pb2.ProduceRequest(topic=topic, partition=partition, records=records)
        response = self.producer.Produce(request, timeout=CALL_SECONDS_MAX)
        self.assertEqual([result.error.reason for result in response.results], [""])
        return response.results[0]

    def fetch_all(self, topic, partition=0):
        """Every record of a partition, as (offset, value)."""
        found, offset = [], 0
        while True:
            position = consume_pb2.FetchPosition(topic=topic, partition=partition, offset=offset)
            response = self.consumer.Fetch(consume_pb2.FetchRequest(positions=[position]), timeout=CALL_SECONDS_MAX)
            fetched = response.partitions[0]
            self.assertEqual(fetched.error.reason, "")
            for batch in fetched.batches:
                found += [(batch.base_offset + i, r.value) for i, r in enumerate(batch.records.records)]
            if fetched.next_offset >= fetched.high_watermark:
                return found
            offset = fetched.next_offset

    def assert_refused(self, call, request, code, reason):
        """The call fails with the status code, and with the reason where every client library finds it."""
        with self.assertRaises(grpc.RpcError) as raised:
            call(request, timeout=CALL_SECONDS_MAX)
        error = raised.exception
        self.assertEqual(error.code(), code, error.details())
        info = error_details_pb2.ErrorInfo()
        status = rpc_status.from_call(error)
        self.assertIsNotNone(status, "the status carries no details")
        self.assertTrue(any(detail.Unpack(info) for detail in status.details), status)
        self.assertEqual((info.domain, info.reason), ("millstream", reason))

    def test_example_goes_on_where_it_stopped(self):
        command = [sys.executable, "example.py", self.broker.address]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=2 * CALL_SECONDS_MAX)
        self.assertEqual(done.returncode, 0, done.stderr)
        before, after = done.stdout.split("-- connected again --\n")
        self.assertEqual((len(before.splitlines()), len(after.splitlines())), (4, 6), done.stdout)

        seen = [re.match(r"(\d)/(\d+) (customer-\d) = order (\d+)$", line).groups()
                for line in (before + after).splitlines()]
        self.assertEqual(sorted(int(order) for *_, order in seen), list(range(10)), "each order exactly once")
        for customer in {customer for _, _, customer, _ in seen}:
            orders = [int(order) for _, _, c, order in seen if c == customer]
            partitions = {partition for partition, _, c, _ in seen if c == customer}
            self.assertEqual(orders, sorted(orders), f"the order of {customer}")
            self.assertEqual(len(partitions), 1, f"one partition holds {customer}")

    def test_once_appends_each_record_once(self):
        command = [sys.executable, "once.py", self.broker.address]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=CALL_SECONDS_MAX, check=True)
        repeats = [f"offset {offset}, a repeat: True" for offset in (0, 2, 4)]
        self.assertEqual(done.stdout.splitlines(), repeats)
        self.assertEqual(len(self.fetch_all("once")), 6)

    def test_errors_carry_a_code_and_a_reason(self):
        self.assert_refused(
            self.topics.GetTopic, topic_pb2.GetTopicRequest(name="nowhere"),
            grpc.StatusCode.NOT_FOUND, "TOPIC_NOT_FOUND")
        records = record_pb2.RecordSet(records=[record_pb2.Record(value=b"x")])
        self.assert_refused(
            self.producer.Produce, produce_pb2.ProduceRequest(topic="nowhere", records=records),
            grpc.StatusCode.NOT_FOUND, "TOPIC_NOT_FOUND")
        self.assert_refused(
            self.topics.CreateTopic, topic_pb2.CreateTopicRequest(name="../etc"),
            grpc.StatusCode.INVALID_ARGUMENT, "INVALID_NAME")
        self.topics.CreateTopic(topic_pb2.CreateTopicRequest(name="orders"), timeout=CALL_SECONDS_MAX)
        self.assert_refused(
            self.topics.CreateTopic, topic_pb2.CreateTopicRequest(name="orders"),
            grpc.StatusCode.ALREADY_EXISTS, "TOPIC_ALREADY_EXISTS")

    def test_acknowledged_records_survive_kill_9(self):
        self.topics.CreateTopic(topic_pb2.CreateTopicRequest(name="orders"), timeout=CALL_SECONDS_MAX)
        sent = []
        for n in range(50):
            values = [b"%d-%d" % (n, i) for i in range(20)]
            result = self.produce("orders", values)
            self.assertEqual(result.base_offset, len(sent))
            self.assertEqual(result.durability, record_pb2.DURABILITY_SYNCED)
            sent += values
        self.broker.end(signal.SIGKILL)

        self.start()
        self.assertEqual(self.fetch_all("orders"), list(enumerate(sent)))
        self.assertEqual(self.produce("orders", [b"after"]).base_offset, len(sent))

    def test_a_dead_letter_is_looked_at_and_sent_back(self):
        queues = queue_pb2_grpc.QueueServiceStub(self.broker.channel)
        letters = dead_letter_pb2_grpc.DeadLetterServiceStub(self.broker.channel)
        self.topics.CreateTopic(topic_pb2.CreateTopicRequest(name="orders"), timeout=CALL_SECONDS_MAX)
        policy = queue_pb2.QueuePolicy(attempts_max=3)
        create = queue_pb2.CreateQueueRequest(name="work", topics=["orders"], policy=policy)
        queues.CreateQueue(create, timeout=CALL_SECONDS_MAX)
        self.produce("orders", [b"poison"])
        receive = queue_pb2.ReceiveRequest(queue="work", max_wait_ms=10_000)
        message = queues.Receive(receive, timeout=CALL_SECONDS_MAX).messages[0]
        reject = queue_pb2.Settlement.Reject(reason="no such customer")
        settlement = queue_pb2.Settlement(lease_token=message.lease_token, reject=reject)
        queues.Settle(queue_pb2.SettleRequest(queue="work", settlements=[settlement]), timeout=CALL_SECONDS_MAX)

        selection = dead_letter_pb2.LetterSelection(queue="work", reason="rejected")
        read = dead_letter_pb2.ReadDeadLettersRequest(selection=selection)
        deadline = time.monotonic() + CALL_SECONDS_MAX
        found = []
        while not found and time.monotonic() < deadline:
            found = [one for part in letters.ReadDeadLetters(read, timeout=CALL_SECONDS_MAX) for one in part.letters]
        self.assertEqual([(one.detail, one.origin_topic, one.record.value) for one in found],
                         [("no such customer", "orders", b"poison")])

        redrive = dead_letter_pb2.RedriveDeadLettersRequest(selection=selection)
        parts = list(letters.RedriveDeadLetters(redrive, timeout=CALL_SECONDS_MAX))
        self.assertEqual([(one.offset, one.to_topic, one.to_offset) for part in parts for one in part.letters],
                         [(0, "orders", 1)])
        self.assertEqual(self.fetch_all("orders"), [(0, b"poison"), (1, b"poison")])
        listed = letters.ListDeadLetterTopics(
            dead_letter_pb2.ListDeadLetterTopicsRequest(), timeout=CALL_SECONDS_MAX).dead_letter_topics
        self.assertEqual([(one.topic, one.open, one.kept) for one in listed], [("work.dlq", 0, 1)])
        plain = dead_letter_pb2.LetterSelection(topic="orders")
        self.assert_refused(
            lambda request, timeout: list(letters.PurgeDeadLetters(request, timeout=timeout)),
            dead_letter_pb2.PurgeDeadLettersRequest(selection=plain),
            grpc.StatusCode.FAILED_PRECONDITION, "NOT_DEAD_LETTER_TOPIC")

    def test_a_signal_is_a_clean_stop(self):
        self.topics.CreateTopic(topic_pb2.CreateTopicRequest(name="orders"), timeout=CALL_SECONDS_MAX)
        self.produce("orders", [b"kept"])
        self.assertEqual(self.broker.end(signal.SIGTERM), 0)
        self.start()
        self.assertEqual(self.fetch_all("orders"), [(0, b"kept")])


if __name__ == "__main__":
    unittest.main()
