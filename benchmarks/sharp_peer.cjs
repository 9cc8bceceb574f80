// Makes thumbnail and preview of pictures as photo servers with sharp do: one decode to raw pixels, then both renditions,
// two files at a time. Each line of standard input is a list of jobs. The answer is a line with the wall time and the
// processor time of the list, in seconds.
const sharp = require("sharp");
const readline = require("node:readline");

sharp.cache(false);

async function make({ source, renditions }) {
  const size = Math.max(...renditions.map((rendition) => rendition.size));
  const fit = (edge) => ({ width: edge, height: edge, fit: "inside", withoutEnlargement: true });
  const { data, info } = await sharp(source).rotate().resize(fit(size)).raw().toBuffer({ resolveWithObject: true });
  await Promise.all(
    renditions.map(({ target, size, quality, effort }) =>
      sharp(data, { raw: info }).resize(fit(size)).webp({ quality, effort }).toFile(target),
    ),
  );
}

async function all(jobs) {
  const left = [...jobs];
  const lane = async () => {
    while (left.length > 0) await make(left.shift());
  };
  await Promise.all([lane(), lane()]);
}

(async () => {
  console.log(JSON.stringify(sharp.versions));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const began = performance.now();
    const before = process.cpuUsage();
    await all(JSON.parse(line));
    const used = process.cpuUsage(before);
    console.log(JSON.stringify([(performance.now() - began) / 1e3, (used.user + used.system) / 1e6]));
  }
})();
