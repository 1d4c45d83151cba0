// A server of gRPC in Node, which does what a call's first words tell it; see ../servers.py for what they are.
//
// It is told what to serve over a socket, a JSON document a line, and answers each with one; the port of that
// socket is the first line of its output. What was begun over a connection ends with it.
"use strict";

const fs = require("node:fs");
const net = require("node:net");
const readline = require("node:readline");
const grpc = require("@grpc/grpc-js");

const METHOD = "/google.ai.generativelanguage.v1beta.GenerativeService/BidiGenerateContent";
const HEALTH = "/grpc.health.v1.Health/Check";
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

const same = (bytes) => bytes;
const bytes = {
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
};
const bidi = { path: METHOD, requestStream: true, responseStream: true, ...bytes };
const check = { path: HEALTH, requestStream: false, responseStream: false, ...bytes };

class Served {
  constructor({ health, streams, certificate, port }) {
    this.stats = { open: 0, cancelled: 0, received: 0, sent: 0 };
    this.released = new Promise((resolve) => (this.release = resolve));
    const options = {
      "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
      ...(streams ? { "grpc.max_concurrent_streams": streams } : {}),
    };
    this.server = new grpc.Server(options);
    this.server.addService({ Bidi: bidi }, { Bidi: (call) => this.begin(call) });
    if (health) {
      this.server.addService({ Check: check }, { Check: (call, answer) => answer(null, Buffer.from([8, 1])) });
    }
    const pem = certificate && fs.readFileSync(certificate);
    const credentials = pem
      ? grpc.ServerCredentials.createSsl(null, [{ private_key: pem, cert_chain: pem }])
      : grpc.ServerCredentials.createInsecure();
    this.bound = new Promise((resolve, reject) =>
      this.server.bindAsync(`127.0.0.1:${port}`, credentials, (error, bound) =>
        error ? reject(error) : resolve(bound),
      ),
    );
  }

  begin(call) {
    this.stats.open += 1;
    const end = () => {
      this.stats.open -= end.is ? 0 : 1;
      end.is = true;
    };
    call.on("cancelled", () => {
      this.stats.cancelled += 1;
      end();
    });
    call.on("error", end);
    call.on("finish", end);
    const [told] = call.metadata.get("x-goog-api-key");
    if (told) {
      this.obey(call, told.split(" "));
    } else {
      call.once("data", (message) => {
        call.pause();
        call.removeAllListeners("data");
        this.obey(call, message.toString().split(" "));
      });
    }
  }

  obey(call, [verb, ...words]) {
    switch (verb) {
      case "echo":
        return this.echo(call);
      case "hold":
        return this.released.then(() => this.echo(call));
      case "sink":
        call.on("data", (message) => (this.stats.received += message.length));
        return call.on("end", () => call.end());
      case "end":
        return this.end(call, ...words);
      case "flood":
        return this.flood(call, Number(words[0]), Number(words[1]), 0);
      case "metadata":
        call.write(Buffer.from(JSON.stringify(call.metadata.getMap())));
        return call.end();
      default:
        return call.emit("error", { code: grpc.status.INTERNAL, details: `what is ${verb}?` });
    }
  }

  echo(call) {
    call.on("data", (message) => {
      this.stats.received += message.length;
      if (message.equals(Buffer.from("bye"))) {
        call.end();
      } else if (!call.write(message)) {
        call.pause();
        call.once("drain", () => call.resume());
      }
    });
    call.on("end", () => call.end());
    call.resume();
  }

  end(call, after, code, details, binary) {
    let left = Number(after);
    const finish = () => {
      const trailers = new grpc.Metadata();
      trailers.set("x-why", "told so");
      if (binary) trailers.set("grpc-status-details-bin", Buffer.from(binary, "hex"));
      if (Number(code) === 0) return call.end(trailers);
      return call.emit("error", {
        code: Number(code),
        details: Buffer.from(details ?? "", "hex").toString(),
        metadata: trailers,
      });
    };
    if (left === 0) return finish();
    call.on("data", (message) => {
      if (left === 0) return;
      call.write(message);
      left -= 1;
      if (left === 0) finish();
    });
    call.resume();
  }

  async flood(call, count, size) {
    for (let number = 0; number < count && !call.cancelled; number += 1) {
      const message = Buffer.alloc(size);
      if (size >= 4) message.writeUInt32BE(number);
      this.stats.sent += size;
      if (!call.write(message)) {
        await new Promise((resolve) => {
          call.once("drain", resolve);
          call.once("cancelled", resolve);
        });
      }
    }
    if (!call.cancelled) call.end();
  }
}

const control = net.createServer((socket) => {
  const all = new Map();
  const commands = {
    start: async (command) => {
      const served = new Served(command);
      const port = await served.bound;
      all.set(port, served);
      return port;
    },
    stats: async ({ port }) => all.get(port).stats,
    release: async ({ port }) => all.get(port).release(),
    leave: async ({ port }) => {
      const served = all.get(port);
      served.left = new Promise((resolve) => served.server.tryShutdown(resolve));
    },
    left: async ({ port }) => all.get(port).left.then(() => null),
    kill: async ({ port }) => all.get(port).server.forceShutdown(),
  };
  socket.on("error", () => {});
  socket.on("close", () => all.forEach((served) => served.server.forceShutdown()));
  readline.createInterface({ input: socket }).on("line", async (line) => {
    const command = JSON.parse(line);
    try {
      const answer = await commands[command.do](command);
      socket.write(JSON.stringify({ answer: answer ?? null }) + "\n");
    } catch (error) {
      socket.write(JSON.stringify({ error: String(error) }) + "\n");
    }
  });
});
control.listen(0, "127.0.0.1", () => console.log(control.address().port));
process.stdin.on("end", () => process.exit()).resume();
