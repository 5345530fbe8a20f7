// A creator: puts four videos into the catalogue. Each can be recommended within a second.
import { Kafka, Partitioners } from "kafkajs";

const kafka = new Kafka({ brokers: ["127.0.0.1:9092"] });
const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
const videos = {
  v42: ["Fingerstyle guitar for beginners", "music"],
  v43: ["Three guitar chords, a hundred songs", "music"],
  v44: ["Guitar solo in one take", "music"],
  v45: ["Paella for six", "cooking"],
};
await producer.connect();
const messages = Object.entries(videos).map(([video_id, [title, category]]) => ({
  key: video_id,
  value: JSON.stringify({
    video_id,
    title,
    channel_id: `${category}-channel`,
    category,
    duration_ms: 30_000,
    uploaded_at_ms: Date.now(),
  }),
}));
await producer.send({ topic: "video-uploads", messages });
await producer.disconnect();
