// Does with a queue what the JavaScript SDK can do with one. After each step it
// prints one line of JSON, and goes on once it has read a line: in between, the
// test looks at the queue with its own eyes.
//
//     node broker.mjs plain|sessions
import { createInterface } from "node:readline";
import { ServiceBusClient } from "@azure/service-bus";

const retryOptions = { maxRetries: 0, timeoutInMs: 20_000 };
const connectionString = process.env.SERVICEBUS_CONNECTION_STRING;
const queue = process.env.SERVICEBUS_QUEUE;
const client = new ServiceBusClient(connectionString, { retryOptions });
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function told(step, facts = {}) {
  console.log(JSON.stringify({ step, ...facts }));
  await lines.next();
}

// failure is the SDK's code of the error that a call must end with.
async function failure(call) {
  try {
    await call;
  } catch (err) {
    return err.code ?? err.name;
  }
  return "none";
}

// receive takes exactly count messages, in as many calls as it takes.
async function receive(receiver, count) {
  const all = [];
  while (all.length < count) {
    const some = await receiver.receiveMessages(count - all.length, { maxWaitTimeInMs: 20_000 });
    if (some.length === 0) throw new Error(`received ${all.length} messages, want ${count}`);
    all.push(...some);
  }
  return all;
}

const seen = (m) => ({ id: m.messageId, body: m.body, deliveries: m.deliveryCount, properties: m.applicationProperties });
const ids = (messages) => messages.map((m) => m.messageId);

async function plain() {
  const sender = client.createSender(queue);
  await sender.sendMessages({
    messageId: "one", body: { name: "É", list: [1, 2.5, null] }, contentType: "application/json", subject: "subject",
    correlationId: "correlation", to: "to", replyTo: "reply", timeToLive: 3_600_000,
    applicationProperties: { text: "é", whole: 7, fraction: 0.5, flag: true },
  });
  await told("send");

  const batch = await sender.createMessageBatch();
  const fits = ["two", "three"].map((id) => batch.tryAddMessage({ messageId: id, body: { id } }));
  const tooLarge = batch.tryAddMessage({ body: Buffer.alloc(batch.maxSizeInBytes) });
  await sender.sendMessages(batch);
  await sender.sendMessages([{ messageId: "four", body: Buffer.from("bytes") }, { messageId: "five", body: "text" }]);
  await told("batch", { fits, tooLarge });

  const receiver = client.createReceiver(queue, { maxAutoLockRenewalDurationInMs: 0 });
  await told("peek", { ids: ids(await receiver.peekMessages(10)) });

  const [one, two, three, four, five] = await receive(receiver, 5);
  await told("receive", seen(one));

  await told("renew", { until: await receiver.renewMessageLock(two) });

  await receiver.completeMessage(one);
  await told("complete");

  await receiver.abandonMessage(two, { why: "not now" });
  const [again] = await receive(receiver, 1);
  await told("abandon", seen(again));
  await receiver.completeMessage(again);

  await receiver.deferMessage(three);
  await told("defer");
  const [deferred] = await receiver.receiveDeferredMessages(three.sequenceNumber);
  await receiver.completeMessage(deferred);
  await told("receive what was deferred", { id: deferred.messageId });

  await receiver.deadLetterMessage(four, { deadLetterReason: "Unwanted", deadLetterErrorDescription: "nobody wants it", kind: "test" });
  await told("dead-letter");
  const dead = client.createReceiver(queue, { subQueueType: "deadLetter", maxAutoLockRenewalDurationInMs: 0 });
  const [letter] = await receive(dead, 1);
  const { deadLetterReason: reason, deadLetterErrorDescription: description, deadLetterSource: source } = letter;
  await told("receive a dead letter", { id: letter.messageId, body: String(letter.body), reason, description, source });
  await dead.completeMessage(letter);
  await dead.close();
  await receiver.completeMessage(five);
  await told("empty", { left: (await receiver.peekMessages(10)).length });

  const tomorrow = new Date(Date.now() + 86_400_000);
  const numbers = await sender.scheduleMessages([{ messageId: "never", body: 1 }, { messageId: "later", body: 2 }], tomorrow);
  await sender.scheduleMessages({ messageId: "soon", body: 3 }, new Date(Date.now() + 500));
  const [soon] = await receive(receiver, 1);
  await told("schedule", { numbers: numbers.map(Number), arrived: soon.messageId });
  await receiver.completeMessage(soon);
  await sender.cancelScheduledMessages(numbers[0]);
  await told("cancel");
  await sender.cancelScheduledMessages(numbers[1]);
  await receiver.close();

  await sender.sendMessages([{ messageId: "x", body: 1 }, { messageId: "y", body: 2 }, { messageId: "z", body: 3 }]);
  const careless = client.createReceiver(queue, { receiveMode: "receiveAndDelete" });
  const taken = await receive(careless, 1);
  await careless.close();
  await told("receive and delete", { ids: ids(taken) });

  const streaming = client.createReceiver(queue, { maxAutoLockRenewalDurationInMs: 0 });
  const streamed = await new Promise((resolve, reject) => {
    const all = [];
    streaming.subscribe({
      processMessage: async (m) => { all.push(m.messageId); if (all.length === 2) setImmediate(resolve, all); },
      processError: async ({ error }) => reject(error),
    });
  });
  await told("subscribe", { ids: streamed });
  await streaming.close();

  const nowhere = client.createSender("nowhere");
  const stranger = new ServiceBusClient(connectionString.replace(/SharedAccessKey=[^;]*/, "SharedAccessKey=d3Jvbmc="), { retryOptions });
  await told("refusals", {
    unknownQueue: await failure(nowhere.sendMessages({ body: 1 })),
    wrongKey: await failure(stranger.createSender(queue).sendMessages({ body: 1 })),
    notDeferred: await failure(client.createReceiver(queue).receiveDeferredMessages(numbers[0])),
  });
  await stranger.close();
}

async function sessions() {
  const sender = client.createSender(queue);
  const message = (sessionId, body) => ({ sessionId, messageId: `${sessionId} ${body}`, body });
  await sender.sendMessages([message("leeds", 1), message("leeds", 2), message("hull", 1)]);
  await told("send");

  const options = { maxAutoLockRenewalDurationInMs: 0 };
  const leeds = await client.acceptSession(queue, "leeds", options);
  await told("accept", { session: leeds.sessionId, until: leeds.sessionLockedUntilUtc });

  const another = new ServiceBusClient(connectionString, { retryOptions });
  await told("refusals", {
    held: await failure(another.acceptSession(queue, "leeds")),
    noSession: await failure(sender.sendMessages({ body: 1 })),
    noSessionReceiver: await failure(another.createReceiver(queue).receiveMessages(1)),
  });

  const hull = await another.acceptNextSession(queue, options);
  await told("accept next", { session: hull.sessionId });

  await told("renew", { until: await leeds.renewSessionLock() });

  const fresh = await leeds.getSessionState();
  await leeds.setSessionState(Buffer.from("half way"));
  await told("state", { fresh, then: String(await leeds.getSessionState()) });

  await told("peek", { ids: ids(await leeds.peekMessages(10)) });

  const [first] = await receive(leeds, 1);
  await leeds.abandonMessage(first);
  const [again] = await receive(leeds, 1);
  await told("abandon", seen(again));
  await leeds.completeMessage(again);
  const [second] = await receive(leeds, 1);
  await leeds.deadLetterMessage(second, { deadLetterReason: "Unwanted" });
  await told("settle");
  await leeds.setSessionState(Buffer.alloc(0)); // clears it; null would be kept as JSON
  await leeds.close();

  const [only] = await receive(hull, 1);
  await hull.completeMessage(only);
  await hull.close();
  await told("close");

  const hasty = new ServiceBusClient(connectionString, { retryOptions: { maxRetries: 0, timeoutInMs: 2_000 } });
  await told("none left", { next: await failure(hasty.acceptNextSession(queue)) });
  await hasty.close();

  await sender.scheduleMessages(message("york", 1), new Date(Date.now() + 500));
  const york = await client.acceptNextSession(queue, options);
  const [scheduled] = await receive(york, 1);
  await told("schedule", { session: york.sessionId, id: scheduled.messageId });
  await york.completeMessage(scheduled);
  await york.close();
  await another.close();
}

await { plain, sessions }[process.argv[2]]();
await client.close();
lines.return();
process.stdin.destroy();
