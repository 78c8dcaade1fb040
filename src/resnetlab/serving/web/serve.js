// Sends photographs to /predict, one after the other, and shows the answers.
(() => {
  "use strict";
  const get = id => document.getElementById(id);
  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const percent = share => `${(100 * share).toFixed(1)} %`;
  const MARKS = { unsure: "unsure", unfamiliar: "unlike the training images" };
  let sending = Promise.resolve();

  get("address").textContent = location.origin;
  fetch("/health").then(answer => answer.json()).then(health => {
    get("about").textContent = `${health.model}, ${health.classes} classes`;
    get("explain").disabled = !health.explains;
  }, () => { get("about").textContent = "The server does not answer."; });

  function shownAnswer(answer, picture) {
    const text = element("div", { className: "text" }, element("h2", { textContent: answer.image }));
    if (answer.error) text.append(element("p", { className: "mark", textContent: answer.error }));
    for (const [mark, words] of Object.entries(MARKS))
      if (answer[mark]) text.append(element("p", { className: "mark", textContent: words }));
    for (const found of answer.classes ?? []) {
      const name = found.name ?? found.class;
      const meter = element("meter", { min: 0, max: 1, value: found.probability });
      meter.setAttribute("aria-label", name);
      text.append(element("div", { className: "bar" }, element("span", { textContent: name }),
        element("span", { textContent: percent(found.probability) }), meter));
    }
    const maps = (answer.maps ?? []).map(map => element("figure", {},
      element("img", { src: map.image, alt: `Where the network sees ${map.name ?? map.class}` }),
      element("figcaption", { textContent: map.name ?? map.class })));
    const shown = element("img", { src: picture, alt: answer.image });
    shown.onload = shown.onerror = () => URL.revokeObjectURL(picture);
    return element("li", {}, shown, text, ...(maps.length ? [element("div", { className: "maps" }, ...maps)] : []));
  }

  async function send(file, name) {
    get("said").textContent = `${name} is being classified …`;
    const form = new FormData();
    form.append("file", file, name);
    const picture = URL.createObjectURL(file);
    try {
      const answer = await fetch(`/predict?explain=${get("explain").checked ? "yes" : "no"}`, { method: "POST", body: form });
      const said = await answer.json();
      for (const found of said.predictions ?? [{ image: name, error: said.error }])
        get("answers").prepend(shownAnswer(found, picture));
      get("said").textContent = answer.ok ? `${name} is classified.` : `${name} could not be classified.`;
    } catch (error) {
      get("said").textContent = `${name}: the server does not answer (${error.message}).`;
    }
  }

  const sendAll = files => [...files].forEach(file => { sending = sending.then(() => send(file, file.name || "picture")); });
  get("files").addEventListener("change", event => { sendAll(event.target.files); event.target.value = ""; });
  addEventListener("paste", event => sendAll(event.clipboardData.files));
  const drop = get("drop");
  addEventListener("dragover", event => { event.preventDefault(); drop.classList.add("over"); });
  addEventListener("dragleave", () => drop.classList.remove("over"));
  addEventListener("drop", event => { event.preventDefault(); drop.classList.remove("over"); sendAll(event.dataTransfer.files); });

  const video = get("video");
  get("camera").addEventListener("click", async () => {
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      video.hidden = get("shoot").hidden = false;
    } catch (error) {
      get("said").textContent = `There is no camera that this page may use (${error.name}).`;
    }
  });
  get("shoot").addEventListener("click", () => {
    const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    video.srcObject.getTracks().forEach(track => track.stop());
    video.hidden = get("shoot").hidden = true;
    canvas.toBlob(blob => sendAll([new File([blob], "camera.jpg")]), "image/jpeg", 0.95);
  });
})();
