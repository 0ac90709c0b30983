// The program of ../grpc_client.py for Node: the same orders, the same answers.
"use strict";

const { createRequire } = require("node:module");
const path = require("node:path");
const readline = require("node:readline");

const packages = createRequire(path.join(process.cwd(), "package.json"));
const grpc = packages("@grpc/grpc-js");
packages("@grpc/grpc-js-xds").register();

const clients = new Map();
const seen = {};
let flowing = [];
let stopped = false;

function call(asked) {
  if (!clients.has(asked.target)) {
    clients.set(asked.target, new grpc.Client(asked.target, grpc.credentials.createInsecure()));
  }
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(asked.metadata ?? {})) metadata.set(name, value);
  const deadline = Date.now() + 1000 * (asked.seconds ?? 5);
  const same = (bytes) => bytes;
  return new Promise((resolve) => {
    clients.get(asked.target).makeUnaryRequest(
      asked.method ?? "/test.Test/Who", same, same, Buffer.alloc(0), metadata, { deadline },
      (error, answer) =>
        resolve(error ? `${grpc.status[error.code]}: ${error.details}` : answer.toString()),
    );
  });
}

function count(into, ended) {
  into[ended] = (into[ended] ?? 0) + 1;
}

async function calls(asked) {
  const ended = {};
  const began = process.hrtime.bigint();
  for (let n = 0; n < asked.calls; n++) count(ended, await call(asked));
  return { ended, seconds: Number(process.hrtime.bigint() - began) / 1e9 };
}

function flow(asked) {
  const go = async () => {
    while (!stopped) count(seen, await call(asked));
  };
  flowing = Array.from({ length: asked.flow }, go);
  return {};
}

async function ended(asked) {
  if (asked.seen === "stop") {
    stopped = true;
    await Promise.all(flowing);
  }
  return { ended: seen };
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    const does = "calls" in order ? calls : "flow" in order ? flow : ended;
    process.stdout.write(JSON.stringify(await does(order)) + "\n");
  }
  process.exit(0);
}

main();
