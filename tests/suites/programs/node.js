// node: files, children, a worker, a server on loopback, timers and streams.
const fs = require('fs'), { execFileSync, spawn } = require('child_process'), { Worker } = require('worker_threads'), http = require('http'), zlib = require('zlib'), crypto = require('crypto');
(async () => {
  fs.writeFileSync('f', 'text'); fs.appendFileSync('f', '!'); console.log(fs.readFileSync('f', 'utf8'), fs.statSync('f').size); await fs.promises.rename('f', 'g'); console.log(fs.readdirSync('.').includes('g')); fs.unlinkSync('g');
  console.log(execFileSync('echo', ['child']).toString().trim());
  console.log(await new Promise(done => { const c = spawn('cat'); let all = ''; c.stdout.on('data', d => all += d); c.on('close', code => done(`${all}${code}`)); c.stdin.end('through '); }));
  console.log(await new Promise(done => spawn('sh', ['-c', 'kill -TERM $$']).on('exit', (code, signal) => done(signal))));
  console.log(await new Promise(done => new Worker('require("worker_threads").parentPort.postMessage([...Array(10).keys()].reduce((a, b) => a + b))', { eval: true }).on('message', done)));
  const server = http.createServer((request, answer) => answer.end('served ' + request.url)); await new Promise(done => server.listen(0, '127.0.0.1', done));
  console.log(await new Promise(done => http.get({ port: server.address().port, path: '/x', host: '127.0.0.1', agent: false }, r => { let all = ''; r.on('data', d => all += d); r.on('end', () => done(all)); }))); server.close();
  console.log(zlib.gunzipSync(zlib.gzipSync('z'.repeat(100000))).length, crypto.createHash('sha256').update('abc').digest('hex').slice(0, 8), crypto.randomBytes(4).length, crypto.pbkdf2Sync('a', 'b', 1000, 8, 'sha1').toString('hex'));
  process.on('SIGUSR2', () => console.log('signal')); process.kill(process.pid, 'SIGUSR2'); await new Promise(done => setTimeout(done, 50));
  const shared = new Int32Array(new SharedArrayBuffer(4)); console.log(Atomics.wait(shared, 0, 0, 20)); let f = n => n < 2 ? n : f(n - 1) + f(n - 2); console.log(f(25), [3, 1, 2].sort(), new Intl.NumberFormat('de').format(1234.5), process.platform);
  try { fs.writeFileSync('/etc/nothing/x', 'x'); } catch (e) { console.log(e.code); } process.exit(9);
})();
