// An agent's host made with the AI SDK: it lists, subscribes, refreshes and unsubscribes as each line on stdin says, and
// writes a line of JSON for all that it does and is told. Arguments: the endpoint, a token, and the server's time in ms.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { createMCPClient, experimental_createMCPEventWebhook } from "@ai-sdk/mcp";

const [url, token, now] = process.argv.slice(2);
Date.now = ((real, ahead) => () => real() + ahead)(Date.now, Number(now) - Date.now());
const say = (what, told) => console.log(JSON.stringify({ what, ...told }));

const kept = new Map();
const store = {
  get: async (key) => kept.get(key),
  getById: async (id) => [...kept.values()].find((each) => each.id === id),
  set: async (subscription) => void kept.set(subscription.key, subscription),
  update: async (key, patch) => void kept.set(key, { ...kept.get(key), ...patch }),
  delete: async (key) => void kept.delete(key),
};
const answer = experimental_createMCPEventWebhook({
  store,
  onEvent: async ({ event }) => say("event", event),
  onGap: async ({ gap }) => say("gap", gap),
  onTerminated: async ({ termination }) => say("terminated", { error: termination.error }),
  onError: (error) => say("error", { message: String(error) }),
});
const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const made = new Request(`http://127.0.0.1:${server.address().port}${request.url}`, {
    method: request.method, headers: request.headers, body: Buffer.concat(chunks),
  });
  const answered = await answer(made);
  const headers = Object.fromEntries(answered.headers);
  response.writeHead(answered.status, headers).end(Buffer.from(await answered.arrayBuffer()));
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

const transport = { type: "http", url, headers: { Authorization: `Bearer ${token}` } };
const client = await createMCPClient({ transport, experimental_events: { store } });
const events = client.experimental_events;
let id;
const orders = {
  list: async () => say("listed", { names: (await events.list()).events.map((each) => each.name) }),
  subscribe: async (name) => {
    const hook = `http://127.0.0.1:${server.address().port}/hook`;
    const made = await events.subscribe({ name, delivery: { mode: "webhook", url: hook, allowInsecureLocalhost: true } });
    id = made.id;
    say("subscribed", made);
  },
  refresh: async () => say("refreshed", await events.refresh({ id })),
  unsubscribe: async () => say("unsubscribed", { result: (await events.unsubscribe({ id })) ?? null }),
};
for await (const line of createInterface({ input: process.stdin })) {
  const [order, ...rest] = line.trim().split(" ");
  await orders[order](...rest).catch((error) => say("error", { message: String(error) }));
}
await client.close();
server.close();
server.closeAllConnections();
