"use strict";
// The page of the server: asks v1/models, v1/captions, v1/attention and v1/answers beside it, and nothing else.
const at = (id) => document.getElementById(id);
const SETTINGS = ["beam_size", "max_len_b", "min_len", "length_penalty", "no_repeat_ngram_size", "style_guidance",
  "image_guidance"];
const JUDGES = { characters: "style judge", sentences: "second judge" };
const MOST_BYTES = 20 * 2 ** 20;
let models = [], image = null, rows = [], stream = null;
let asked = null; // what the rows are answers to

function tell(text) {
  at("error").textContent = text;
  at("error").hidden = !text;
}

async function ask(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (at("key").value) headers.Authorization = `Bearer ${at("key").value}`;
  const options = body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server cannot be reached: is it still running?");
  }
  const content = await answer.json();
  if (answer.status === 401) at("locked").hidden = false;
  if (!answer.ok) throw new Error(content.error.message);
  return content;
}

function made(kind, text, within) {
  const element = document.createElement(kind);
  element.textContent = text;
  within.append(element);
  return element;
}

// --- models and styles

async function showModels() {
  models = (await ask("v1/models")).data.filter((one) => one.task);
  at("model").replaceChildren();
  for (const one of models) made("option", one.id, at("model"));
  showModel();
}

const chosenModel = () => models[at("model").selectedIndex];
const chosenStyles = () => [...at("styles").querySelectorAll("input:checked")].map((box) => box.value);

function showModel() {
  const model = chosenModel(), asks = model.task === "answers";
  at("captioning").hidden = asks;
  at("answering").hidden = !asks;
  at("go").textContent = asks ? "Answer" : "Write captions";
  at("styles").replaceChildren();
  for (const style of model.styles) {
    const label = made("label", "", at("styles")), box = document.createElement("input");
    box.type = "checkbox";
    box.value = style;
    label.append(box, ` ${style}`);
  }
  at("mixing").hidden = !model.mixes;
  for (const id of ["first", "second"]) {
    at(id).replaceChildren();
    made("option", "none", at(id)).value = "";
    for (const style of model.styles) made("option", style, at(id)).value = style;
  }
  showMixture();
}

function countStyles() {
  const count = chosenStyles().length + (mixture() ? 1 : 0);
  at("count").textContent = count ? `(${count} chosen)` : "(none chosen: all)";
}

// A mixture as the server takes it; null where two styles are not chosen.
function mixture() {
  const [one, other, part] = [at("first").value, at("second").value, Number(at("part").value)];
  if (!chosenModel()?.mixes || !one || !other || one === other) return null;
  return `${(100 - part) / 100}*${one} + ${part / 100}*${other}`;
}

function showMixture() {
  at("parted").textContent = `${at("part").value}%`;
  at("mixture").textContent = mixture() ?? "Choose two styles: their mixture is captioned as well.";
  countStyles();
}

function search() {
  const wanted = at("search").value.trim().toLowerCase();
  for (const label of at("styles").children) label.hidden = !label.textContent.toLowerCase().includes(wanted);
}

// --- the photo

function take(file) {
  tell("");
  if (!file) return;
  if (!file.type.startsWith("image/")) return tell(`${file.name} is no image: choose a JPEG, PNG or WebP file.`);
  if (file.size > MOST_BYTES) return tell(`${file.name} is larger than 20 MB: choose a smaller one.`);
  const reader = new FileReader();
  reader.onload = () => {
    image = reader.result;
    look(null);
    at("photo").src = image;
    at("photo").alt = `The photo ${file.name}`;
    at("photo").hidden = false;
    at("hint").hidden = true;
  };
  reader.onerror = () => tell(`${file.name} cannot be read.`);
  reader.readAsDataURL(file);
}

async function camera() {
  if (stream) return stopCamera();
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: true });
  } catch {
    return tell("There is no camera that this page may use.");
  }
  at("video").srcObject = stream;
  at("video").hidden = at("shoot").hidden = false;
  await at("video").play();
}

function stopCamera() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  at("video").hidden = at("shoot").hidden = true;
}

function shoot() {
  const canvas = document.createElement("canvas"), video = at("video");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => take(new File([blob], "camera.jpg", { type: "image/jpeg" })), "image/jpeg", 0.92);
  stopCamera();
}

// --- asking

function captionsBody() {
  const body = { model: chosenModel().id, image, styles: chosenStyles(), judge: true };
  if (mixture()) body.styles.push(mixture());
  if (chosenModel().mixes && Number(at("intensity").value) !== 1) body.intensity = Number(at("intensity").value);
  for (const name of SETTINGS) if (at(name).value !== "") body[name] = Number(at(name).value);
  return body;
}

async function submit(event) {
  event.preventDefault();
  tell("");
  look(null);
  if (!image) return tell("Choose a photo first.");
  at("go").disabled = true;
  at("results").setAttribute("aria-busy", "true");
  try {
    if (chosenModel().task === "answers") {
      const question = at("question").value;
      const found = await ask("v1/answers", { model: chosenModel().id, image, question });
      rows = found.answers.map((one) => ({ question, answer: one.answer, probability: one.probability }));
    } else {
      asked = captionsBody();
      rows = (await ask("v1/captions", asked)).captions;
    }
    show();
  } catch (error) {
    tell(error.message);
  } finally {
    at("go").disabled = false;
    at("results").setAttribute("aria-busy", "false");
  }
}

function show() {
  at("empty").hidden = true;
  at("save").hidden = !rows.length;
  at("cards").replaceChildren();
  for (const row of rows) {
    const card = made("article", "", at("cards"));
    card.className = "card";
    made("h3", row.style ?? row.question, card);
    const text = made("p", row.caption ?? row.answer, card);
    const number = row.score ?? row.probability;
    const told = row.style ? `mean log-probability ${number}` : `${(100 * number).toFixed(1)}%`;
    for (const judge of Object.keys(JUDGES)) if (`${judge}_score` in row) showJudged(row, judge, card);
    made("small", told, card);
    if (row.beams?.length > 1) showBeams(row.beams, card);
    if (row.style && row.caption) showLook(row, text, card);
  }
}

function showJudged(row, judge, card) {
  const line = made("small", `${JUDGES[judge]} ${(100 * row[`${judge}_score`]).toFixed(0)}% `, card);
  line.className = "judged";
  const meter = made("meter", "", line);
  meter.value = row[`${judge}_score`];
  meter.setAttribute("aria-hidden", "true");
  const likeliest = row[`${judge}_style`];
  if (likeliest !== row.style) line.append(` likeliest: ${likeliest}`);
}

function showBeams(beams, card) {
  const more = made("details", "", card);
  made("summary", `${beams.length} beams`, more);
  const list = made("ol", "", more);
  for (const beam of beams) made("li", `${beam.text} (${beam.score})`, list);
}

// --- where the model looked

function showLook(row, text, card) {
  const button = made("button", "Show where it looked", card), { model, image, intensity } = asked;
  button.type = "button";
  button.className = "look";
  button.addEventListener("click", async () => {
    tell("");
    button.disabled = true;
    try {
      const body = { model, image, style: row.style, caption: row.caption };
      showWords(await ask("v1/attention", intensity === undefined ? body : { ...body, intensity }), image, text);
      button.remove();
    } catch (error) {
      button.disabled = false;
      tell(error.message);
    }
  });
}

function showWords({ words, area }, of, text) {
  text.replaceChildren();
  text.className = "words";
  for (const one of words) {
    const button = made("button", one.word, text);
    button.type = "button";
    button.className = "word";
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const again = button.getAttribute("aria-pressed") === "true";
      look(null);
      if (again) return;
      if (of !== image) return tell("Another photo is shown now: write captions for it first.");
      look(one, area);
      button.setAttribute("aria-pressed", "true");
    });
    text.append(" ");
  }
  text.querySelector("button")?.click();
  text.querySelector("button")?.focus();
}

// Darkens the photo where the model looked least for a word; null shows the photo as it is.
function look(word, area) {
  at("overlay").hidden = at("looking").hidden = !word;
  for (const other of document.querySelectorAll(".word")) other.setAttribute("aria-pressed", "false");
  if (!word) return;
  const [rows, columns] = [word.cells.length, word.cells[0].length];
  const small = document.createElement("canvas"), canvas = at("overlay"), photo = at("photo");
  [small.width, small.height] = [columns, rows];
  const pixels = new ImageData(columns, rows);
  word.cells.flat().forEach((value, place) => { pixels.data[4 * place + 3] = Math.round(200 * (1 - value)); });
  small.getContext("2d").putImageData(pixels, 0, 0);
  [canvas.width, canvas.height] = [photo.clientWidth, photo.clientHeight];
  const [left, top, right, bottom] = area, context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(small, left * canvas.width, top * canvas.height,
    (right - left) * canvas.width, (bottom - top) * canvas.height);
  at("looking").textContent = `Bright: where the model looked to write “${word.word}”. ` +
    `The photo had ${(100 * word.share).toFixed(0)}% of its attention, the prompt the rest.`;
}

// --- saving

function save(text, name, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function table() {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter((name) => name !== "beams");
  // A spreadsheet would run a text that begins so.
  const safe = (value) => (typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value));
  const cell = (value) => `"${safe(value).replaceAll('"', '""')}"`;
  return [columns, ...rows.map((row) => columns.map((name) => row[name] ?? ""))]
    .map((line) => line.map(cell).join(",")).join("\r\n");
}

at("model").addEventListener("change", showModel);
at("styles").addEventListener("change", countStyles);
at("search").addEventListener("input", search);
at("search").addEventListener("keydown", (event) => event.key === "Enter" && event.preventDefault());
at("none").addEventListener("click", () => {
  for (const box of at("styles").querySelectorAll("input")) box.checked = false;
  countStyles();
});
at("intensity").addEventListener("input", () => { at("shown").textContent = at("intensity").value; });
for (const id of ["first", "second", "part"]) at(id).addEventListener("input", showMixture);
at("file").addEventListener("change", () => take(at("file").files[0]));
at("camera").addEventListener("click", camera);
at("shoot").addEventListener("click", shoot);
at("form").addEventListener("submit", submit);
at("key").addEventListener("change", () => showModels().then(() => tell("")).catch((error) => tell(error.message)));
at("csv").addEventListener("click", () => save(table(), "captions.csv", "text/csv"));
at("json").addEventListener("click", () => save(JSON.stringify(rows, null, 1), "captions.json", "application/json"));
document.addEventListener("paste", (event) => event.clipboardData.files.length && take(event.clipboardData.files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}
showModels().catch((error) => tell(error.message));
