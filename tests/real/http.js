// A web server and its client, timers, a worker thread, a child process, files and compression.
const http = require('http');
const { Worker, isMainThread, parentPort } = require('worker_threads');
const { execFile } = require('child_process');
const zlib = require('zlib');
const fs = require('fs');
if (!isMainThread) {
  let sum = 0;
  for (let i = 0; i < 1e6; i++) sum += i % 7;
  parentPort.postMessage(sum);
} else {
  const ask = (port, path) => new Promise((resolve, reject) => http.get({ port, path, host: '127.0.0.1' }, (r) => {
    let body = '';
    r.on('data', (d) => body += d).on('end', () => resolve(`${r.statusCode} ${body}`));
  }).on('error', reject));
  const server = http.createServer((q, r) => { r.statusCode = q.url === '/none' ? 404 : 200; r.end(`hello ${q.url}`); });
  server.listen(0, '127.0.0.1', async () => {
    const { port } = server.address();
    for (const path of ['/', '/a', '/none']) console.log(await ask(port, path));
    server.close();
    server.closeAllConnections();
    console.log(await new Promise((resolve) => new Worker(__filename).on('message', resolve)));
    console.log(await new Promise((resolve) => execFile('echo', ['child'], (e, out) => resolve(out))));
    await fs.promises.writeFile('f', 'text'.repeat(1000));
    console.log((await fs.promises.readFile('f')).length);
    console.log(await new Promise((resolve) => zlib.gzip('x'.repeat(100000), (e, z) => resolve(zlib.gunzipSync(z).length))));
    await new Promise((resolve) => setTimeout(resolve, 20));
    console.log('done');
  });
}
