// POST a body over node:http2 to several ports, the same body to each path; print what became of each as JSON.
// curl is no judge here: it takes an answer that comes before its upload is through for a failure.
import http2 from "node:http2";

const [host, first, size, ...paths] = process.argv.slice(2);

function ask(path, number) {
  return new Promise((resolve) => {
    const session = http2.connect(`http://${host}:${Number(first) + number}`);
    const stream = session.request({ ":method": "POST", ":path": path });
    const seen = { body: "" };
    stream.setEncoding("utf8");
    stream.on("response", (head) => { seen.status = head[":status"]; });
    stream.on("data", (part) => { seen.body += part; });
    stream.on("error", () => {});
    stream.on("close", () => {
      session.close();
      resolve([path, seen.status, seen.body, stream.rstCode]);
    });
    stream.end(Buffer.alloc(Number(size)));
  });
}

console.log(JSON.stringify(await Promise.all(paths.map(ask))));
