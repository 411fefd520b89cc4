// What the browser refuses about a passkey is said on the page, where there is a place for it.
document.addEventListener("allauth.error", (event) => {
  const place = document.getElementById("webauthn_problem");
  if (!place) return;
  event.preventDefault();
  place.hidden = false;
});
