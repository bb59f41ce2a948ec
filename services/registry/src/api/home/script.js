"use strict";
// Links of MLflow's client (`/#/experiments/1/runs/abc`) have their place in the fragment, which never reaches the server. Text from the
// server only ever becomes text nodes.
const content = document.getElementById("content");

function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}

function link(text, target) {
  const made = element("a", text);
  made.href = target;
  return made;
}

function cell(value) {
  const made = element("td");
  made.append(value instanceof Node ? value : String(value ?? ""));
  return made;
}

function table(title, header, rows) {
  if (rows.length === 0) return;
  content.append(element("h3", title));
  const made = element("table");
  const head = element("tr");
  for (const name of header) head.append(element("th", name));
  made.append(head);
  for (const row of rows) {
    const line = element("tr");
    for (const value of row) line.append(cell(value));
    made.append(line);
  }
  content.append(made);
}

const time = (ms) => (ms ? new Date(Number(ms)).toLocaleString() : "");
const pairs = (list) => (list ?? []).map((item) => [item.key, item.value]);
const runLink = (experiment, run, name) => link(name || run, `#/experiments/${encodeURIComponent(experiment)}/runs/${encodeURIComponent(run)}`);
const modelLink = (name) => link(name, `#/models/${encodeURIComponent(name)}`);
const versionLink = (name, version) => link(version, `#/models/${encodeURIComponent(name)}/versions/${encodeURIComponent(version)}`);

async function get(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.message || body.detail || `HTTP status ${answer.status}`);
  return body;
}

async function showRun(run) {
  const { info, data, inputs, outputs } = (await get(`api/2.0/mlflow/runs/get?run_id=${encodeURIComponent(run)}`)).run;
  content.append(element("h2", `Run ${info.run_name || info.run_id}`));
  table("Run", ["", ""], [
    ["ID", info.run_id],
    ["experiment", link(info.experiment_id, `#/experiments/${encodeURIComponent(info.experiment_id)}`)],
    ["status", info.status], ["user", info.user_id], ["started", time(info.start_time)], ["ended", time(info.end_time)],
    ["artifacts", info.artifact_uri],
  ]);
  table("Metrics", ["metric", "value", "step"], (data?.metrics ?? []).map((metric) => [metric.key, metric.value, metric.step]));
  table("Parameters", ["parameter", "value"], pairs(data?.params));
  table("Tags", ["tag", "value"], pairs(data?.tags));
  table("Datasets", ["dataset", "digest"], (inputs?.dataset_inputs ?? []).map((one) => [one.dataset.name, one.dataset.digest]));
  table("Logged models", ["model"], (outputs?.model_outputs ?? []).map((one) =>
    [link(one.model_id, `#/experiments/${encodeURIComponent(info.experiment_id)}/models/${encodeURIComponent(one.model_id)}`)]));
}

async function showLoggedModel(id) {
  const { info, data } = (await get(`api/2.0/mlflow/logged-models/${encodeURIComponent(id)}`)).model;
  content.append(element("h2", `Logged model ${info.name}`));
  table("Logged model", ["", ""], [
    ["ID", info.model_id], ["status", info.status], ["created", time(info.creation_timestamp_ms)],
    ["run", info.source_run_id ? runLink(info.experiment_id, info.source_run_id) : ""], ["artifacts", info.artifact_uri],
  ]);
  table("Parameters", ["parameter", "value"], pairs(data?.params));
  table("Tags", ["tag", "value"], pairs(info.tags));
}

async function showRuns(title, query) {
  const { runs } = await get(`api/v1/runs?limit=50${query}`);
  content.append(element("h2", title));
  if (runs.length === 0) content.append(element("p", "There are no runs."));
  table("Runs, newest first", ["run", "experiment", "status", "user", "started"], runs.map((run) =>
    [runLink(run.experiment_id, run.run_id, run.run_name), link(run.experiment_id, `#/experiments/${encodeURIComponent(run.experiment_id)}`),
      run.status, run.user_id, time(run.start_time)]));
}

async function showModels() {
  const { models } = await get("api/v1/models?limit=50");
  table("Registered models", ["model", "latest version", "aliases"], models.map((model) =>
    [modelLink(model.name), model.latest_version ? versionLink(model.name, model.latest_version) : "",
      Object.entries(model.aliases).map(([alias, version]) => `${alias} → ${version}`).join(", ")]));
}

async function showModel(name) {
  const { versions } = await get(`api/v1/models/${encodeURIComponent(name)}/versions?limit=50`);
  content.append(element("h2", `Model ${name}`));
  table("Versions, newest first", ["version", "aliases", "servable", "created"], versions.map((version) =>
    [versionLink(name, version.version), version.aliases.join(", "), version.servable ? "yes" : `no: ${version.unservable_reason}`,
      time(version.created_at_unix_ms)]));
}

async function showVersion(name, number) {
  const version = await get(`api/v1/models/${encodeURIComponent(name)}/versions/${encodeURIComponent(number)}`);
  content.append(element("h2", `Model ${name}, version ${number}`));
  if (!version.servable) {
    const note = element("p", `Slipway cannot serve it: ${version.unservable_reason}`);
    note.className = "note";
    content.append(note);
  }
  const run = version.run_id ? link(version.run_id, `#/runs/${encodeURIComponent(version.run_id)}`) : "";
  table("Version", ["", ""], [["model", modelLink(name)], ["aliases", version.aliases.join(", ")], ["run", run], ["source", version.source],
    ["digest", version.digest], ["created", time(version.created_at_unix_ms)]]);
  const tensor = (one) => [one.name, one.datatype, one.shape.join(" × ")];
  table("Inputs", ["name", "datatype", "shape"], version.inputs.map(tensor));
  table("Outputs", ["name", "datatype", "shape"], version.outputs.map(tensor));
  table("Files", ["path", "bytes"], version.files.map((file) => [file.path, file.size_bytes]));
}

function page(parts) {
  const [kind, first, second, third] = parts;
  if (kind === "experiments" && second === "runs" && third) return showRun(third);
  if (kind === "experiments" && second === "models" && third) return showLoggedModel(third);
  if (kind === "experiments" && first) return showRuns(`Experiment ${first}`, `&experiment=${encodeURIComponent(first)}`);
  if (kind === "runs" && first) return showRun(first);
  if (kind === "models" && first && second === "versions" && third) return showVersion(first, third);
  if (kind === "models" && first) return showModel(first);
  return showRuns("Latest runs", "").then(showModels);
}

async function show() {
  content.replaceChildren();
  const place = location.hash.replace(/^#\/?/, "").split("?")[0];
  try {
    await page(place.split("/").filter((part) => part !== "").map(decodeURIComponent));
  } catch (error) {
    const note = element("p", `It cannot be shown: ${error.message}`);
    note.className = "note";
    content.append(note);
  }
}

window.addEventListener("hashchange", show);
show();
