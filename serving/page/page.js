"use strict";
// The page of the server: asks /v1/models, /v1/captions and /v1/answers of its own server, and nothing else.
const at = (id) => document.getElementById(id);
const SETTINGS = ["beam_size", "max_len_b", "min_len", "length_penalty", "no_repeat_ngram_size", "image_guidance"];
const MOST_BYTES = 20 * 2 ** 20;
let models = [], image = null, rows = [], stream = null;

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
  countStyles();
}

function countStyles() {
  const count = chosenStyles().length;
  at("count").textContent = count ? `(${count} chosen)` : "(none chosen: all)";
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
  const body = { model: chosenModel().id, image, styles: chosenStyles() };
  if (Number(at("intensity").value)) body.intensity = Number(at("intensity").value);
  for (const name of SETTINGS) if (at(name).value !== "") body[name] = Number(at(name).value);
  return body;
}

async function submit(event) {
  event.preventDefault();
  tell("");
  if (!image) return tell("Choose a photo first.");
  at("go").disabled = true;
  at("results").setAttribute("aria-busy", "true");
  try {
    if (chosenModel().task === "answers") {
      const question = at("question").value;
      const found = await ask("v1/answers", { model: chosenModel().id, image, question });
      rows = found.answers.map((one) => ({ question, answer: one.answer, probability: one.probability }));
    } else {
      const found = await ask("v1/captions", captionsBody());
      rows = found.captions.map(({ style, caption, score, beams }) => ({ style, caption, score, beams }));
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
    made("p", row.caption ?? row.answer, card);
    const number = row.score ?? row.probability;
    const told = row.style ? `mean log-probability ${number}` : `${(100 * number).toFixed(1)}%`;
    made("small", told, card);
    if (row.beams?.length > 1) showBeams(row.beams, card);
  }
}

function showBeams(beams, card) {
  const more = made("details", "", card);
  made("summary", `${beams.length} beams`, more);
  const list = made("ol", "", more);
  for (const beam of beams) made("li", `${beam.text} (${beam.score})`, list);
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
  const columns = Object.keys(rows[0]).filter((name) => name !== "beams");
  // A spreadsheet would run a text that begins so.
  const safe = (value) => (typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value));
  const cell = (value) => `"${safe(value).replaceAll('"', '""')}"`;
  return [columns, ...rows.map((row) => columns.map((name) => row[name]))]
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
