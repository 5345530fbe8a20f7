import { randomUUID } from "node:crypto";
import { Kafka, Partitioners } from "kafkajs";

// The default partitioner of kafkajs 2 is murmur2, as it must be.
const kafka = new Kafka({ brokers: ["127.0.0.1:9092"] });
const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
const watch = {
  event_id: randomUUID(),
  user_id: "u1",
  video_id: "v42",
  event_time_ms: Date.now(),
  watch_ms: 21_000,
  duration_ms: 30_000,
};
await producer.connect();
await producer.send({
  topic: "watch-events",
  messages: [{ key: watch.user_id, value: JSON.stringify(watch) }],
});
await producer.disconnect();
