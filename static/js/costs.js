// Parts of the costs page that are asked for later: when one does not come, its place says so.
function failed(event) {
  const place = event.detail.target;
  const words = document.createElement("p");
  words.className = "bad";
  words.textContent = event.type === "htmx:sendError" ? "The portal could not be reached." : "This could not be worked out now.";
  if (event.detail.xhr?.status === 400) words.textContent = event.detail.xhr.responseText.replace(/<[^>]*>/g, " ").trim();
  place.replaceChildren(words);
}
document.addEventListener("htmx:responseError", failed);
document.addEventListener("htmx:sendError", failed);
