// A player: asks for a list, watches its first video, asks again.
import { randomUUID } from "node:crypto";
import { Kafka, Partitioners } from "kafkajs";

const USER = "u2";
const kafka = new Kafka({ brokers: ["127.0.0.1:9092"] });
const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
const consumer = kafka.consumer({ groupId: `player-${randomUUID()}` });
const waiting = new Map(); // id of a request or event -> who waits for its answer

const send = (topic, fields) =>
  producer.send({
    topic,
    messages: [{ key: USER, value: JSON.stringify({ user_id: USER, ...fields }) }],
  });

const answered = (id) => new Promise((resolve) => waiting.set(id, resolve));

await producer.connect();
await consumer.connect();
await consumer.subscribe({ topic: "recommendations", fromBeginning: true });
await consumer.run({
  eachMessage: async ({ message }) => {
    if (message.value === null) return; // this user was erased
    const answer = JSON.parse(message.value.toString());
    for (const id of answer.caused_by) waiting.get(id)?.(answer);
  },
});
for (let round = 0; round < 3; round++) {
  const request_id = randomUUID();
  const asked = answered(request_id);
  await send("recommendation-requests", { request_id, event_time_ms: Date.now(), number: 5 });
  const videos = (await asked).items.map((item) => item.video_id);
  console.log(USER, JSON.stringify(videos));
  if (videos.length > 0) {
    const event_id = randomUUID();
    const learned = answered(event_id);
    const watch = { event_id, video_id: videos[0], event_time_ms: Date.now() };
    await send("watch-events", { ...watch, watch_ms: 30_000, duration_ms: 30_000 });
    await learned;
  }
}
await consumer.disconnect();
await producer.disconnect();
