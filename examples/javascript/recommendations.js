import { Kafka } from "kafkajs";

const kafka = new Kafka({ brokers: ["127.0.0.1:9092"] });
// A group begins at its committed offset, the first time at the beginning: nothing is missed.
const consumer = kafka.consumer({ groupId: "my-javascript-application" });
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
