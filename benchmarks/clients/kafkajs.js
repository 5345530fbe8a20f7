// A bridge to kafkajs with its default settings: messages to send as lines of JSON on stdin,
// recommendations as lines on stdout, "ready" and "sent" on stderr.
import { createInterface } from "node:readline";
import { Kafka, logLevel } from "kafkajs";

const kafka = new Kafka({ brokers: [process.argv[2]], logLevel: logLevel.ERROR });
const producer = kafka.producer();
const consumer = kafka.consumer({ groupId: `client-${process.pid}-${Date.now()}` });
consumer.on(consumer.events.CRASH, ({ payload }) => {
  console.error(String(payload.error));
  process.exit(1);
});
consumer.on(consumer.events.GROUP_JOIN, () => console.error("ready"));
await producer.connect();
await consumer.connect();
await consumer.subscribe({ topic: "recommendations" });
await consumer.run({
  eachMessage: async ({ message }) => {
    if (message.value !== null) console.log(message.value.toString());
  },
});
for await (const line of createInterface({ input: process.stdin })) {
  const { topic, key, value } = JSON.parse(line);
  await producer.send({ topic, messages: [{ key, value }] });
  console.error("sent");
}
