import { Kafka } from "kafkajs";

const kafka = new Kafka({ brokers: ["127.0.0.1:9092"] });
// A group begins at its committed offset, the first time at the beginning: nothing is missed.
const consumer = kafka.consumer({ groupId: "my-javascript-application" });
// Leave the group when asked to end: a member that goes without a word holds its partitions for 30 s.
const leave = () => consumer.disconnect().finally(() => process.exit());
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, leave);
await consumer.connect();
await consumer.subscribe({ topic: "recommendations", fromBeginning: true });
await consumer.run({
  eachMessage: async ({ message }) => {
    if (message.value === null) return; // this user was erased
    const { user_id, items, degraded } = JSON.parse(message.value.toString());
    const videos = items.map((item) => item.video_id);
    console.log(user_id, JSON.stringify(videos), "degraded:", JSON.stringify(degraded));
  },
});
