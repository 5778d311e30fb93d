// npm install @azure/service-bus && node enqueue.mjs < actions.jsonl
// Each line is {"provider_id": "leeds", "setting_id": null, "action": {"action_id": ...}}.
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { ServiceBusClient } from "@azure/service-bus";

// One gateway is one session: the same id as consumer.SessionID makes.
function sessionId(provider, setting) {
  const hex = (c) => Buffer.from(c).toString("hex").toUpperCase().replace(/../g, "%$&");
  const id = [provider, setting].filter((part) => part != null)
    .map((part) => part.replace(/[^\w.~$&+:=@-]/gu, hex)).join("/");
  return id.length <= 128 ? id : createHash("sha256").update(id).digest("hex");
}

// The error of JSON.parse would quote the participant's details.
function parse(line) {
  try { return JSON.parse(line); } catch { throw new Error("a line is not JSON"); }
}

const client = new ServiceBusClient(process.env.SERVICEBUS_CONNECTION_STRING);
const sender = client.createSender(process.env.SERVICEBUS_QUEUE ?? "worklist-commands");
for await (const line of createInterface({ input: process.stdin })) {
  const { provider_id, setting_id, traceparent, action } = parse(line);
  const properties = Object.entries({ provider_id, setting_id, traceparent });
  await sender.sendMessages({
    body: action, // the object, which is sent as JSON; text would be sent as a JSON string
    contentType: "application/json",
    messageId: action.action_id.toLowerCase(),
    sessionId: sessionId(provider_id, setting_id),
    applicationProperties: Object.fromEntries(properties.filter(([, value]) => value != null)),
  });
}
await client.close();
