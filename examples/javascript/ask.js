// A player: asks for a list, watches its first video, asks again.
import { randomUUID } from "node:crypto";
import { Kafka, Partitioners } from "kafkajs";

const USER = "u2";
const TOPIC = "recommendations";
const kafka = new Kafka({ brokers: ["127.0.0.1:9092"] });
const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
const groupId = `player-${randomUUID()}`;
const consumer = kafka.consumer({ groupId });
const admin = kafka.admin();
const waiting = new Map(); // id of a request or event -> who waits for its answer

const send = (topic, fields) =>
  producer.send({
    topic,
    messages: [{ key: USER, value: JSON.stringify({ user_id: USER, ...fields }) }],
  });

// Others on the topic are for others. An event that is a dead letter has no answer.
const answered = (id) =>
  new Promise((resolve, reject) => {
    const silent = new Error("no answer within 10 s: does Nextwatch run, or is it a dead letter?");
    const timer = setTimeout(() => reject(silent), 10_000);
    waiting.set(id, (answer) => {
      clearTimeout(timer);
      waiting.delete(id);
      resolve(answer);
    });
  });

const ask = async (topic, id, fields) => {
  const answer = answered(id); // before it is sent: the answer may come first
  await Promise.all([send(topic, fields), answer]);
  return answer;
};

await Promise.all([admin.connect(), producer.connect(), consumer.connect()]);
try {
  // kafkajs reads in groups only. This one begins at the end, and is deleted when it is done.
  const ends = await admin.fetchTopicOffsets(TOPIC);
  const partitions = ends.map(({ partition, high }) => ({ partition, offset: high }));
  await admin.setOffsets({ groupId, topic: TOPIC, partitions });
  await consumer.subscribe({ topic: TOPIC });
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ message }) => {
      if (message.value === null) return; // this user was erased
      const answer = JSON.parse(message.value.toString());
      for (const id of answer.caused_by) waiting.get(id)?.(answer);
    },
  });
  for (let round = 0; round < 3; round++) {
    const request_id = randomUUID();
    const request = { request_id, event_time_ms: Date.now(), number: 5 };
    const { items, degraded } = await ask("recommendation-requests", request_id, request);
    const videos = items.map((item) => item.video_id);
    console.log(USER, JSON.stringify(videos), "degraded:", JSON.stringify(degraded));
    if (videos.length > 0) {
      const event_id = randomUUID();
      const watch = { event_id, video_id: videos[0], event_time_ms: Date.now() };
      await ask("watch-events", event_id, { ...watch, watch_ms: 30_000, duration_ms: 30_000 });
    }
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await Promise.all([consumer.disconnect(), producer.disconnect()]);
  await admin.deleteGroups([groupId]);
  await admin.disconnect();
}
