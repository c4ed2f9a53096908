// Plays one player at a time, switches between the sounds of an example, and loads players only near the viewport.
"use strict";
(() => {
  // The sounds of a switch play together and all but one are muted. They may be this many seconds apart.
  const APART = 0.02;

  document.querySelectorAll(".scripted").forEach((text) => { text.hidden = false; });

  document.addEventListener("play", (event) => {
    if (event.target.paused) return; // already stopped again
    const mine = event.target.closest("[data-switch].on");
    document.querySelectorAll("audio").forEach((other) => {
      if (other !== event.target && !(mine && mine.contains(other))) other.pause();
    });
  }, true);

  document.querySelectorAll("[data-switch]").forEach((group) => {
    const players = [...group.querySelectorAll("audio")];
    const box = group.querySelector(".switch");
    if (players.length < 2 || !box) return;
    const go = box.querySelector(".go"), stop = box.querySelector(".stop");
    const choices = [...box.querySelectorAll(".one")];
    const status = box.querySelector("[role=status]");
    const idle = go.textContent;
    let now = -1; // index of the audible player, -1 for none
    let touched = null; // the last player used by hand: the switch starts at its position

    const place = (player, seconds) => { player.currentTime = player.duration ? seconds % player.duration : 0; };
    const show = () => {
      players.forEach((player, i) => {
        player.muted = now >= 0 && i !== now;
        player.parentElement.classList.toggle("hearing", i === now);
      });
      choices.forEach((choice, i) => choice.setAttribute("aria-pressed", String(i === now)));
      go.textContent = now < 0 ? idle : "Switch to " + players[(now + 1) % players.length].dataset.name;
      stop.hidden = now < 0;
      status.textContent = now < 0 ? "" : "Playing: " + players[now].dataset.name;
    };
    const end = () => {
      if (now < 0) return;
      touched = players[now];
      now = -1;
      group.classList.remove("on");
      players.forEach((player) => { player.loop = false; player.pause(); });
      show();
    };
    const begin = (player, seconds) => {
      const run = () => {
        if (now < 0) return;
        place(player, seconds);
        // AbortError: the player was paused before it started, which must not end the switch.
        player.play().catch((error) => { if (players[now] === player && error.name !== "AbortError") end(); });
      };
      player.loop = true;
      if (player.readyState > 0) run();
      else {
        player.addEventListener("loadedmetadata", run, { once: true });
        player.preload = "auto";
        player.load();
      }
    };
    const hear = (next) => {
      const before = players[now];
      now = next;
      if (before) {
        const apart = Math.abs(players[next].currentTime - before.currentTime);
        if (apart > APART && apart < players[next].duration - APART) place(players[next], before.currentTime);
        show();
      } else {
        const seconds = (touched || players[next]).currentTime;
        group.classList.add("on");
        show();
        players.forEach((player) => begin(player, seconds));
      }
    };
    go.addEventListener("click", () => hear((now + 1) % players.length));
    choices.forEach((choice, i) => choice.addEventListener("click", () => hear(i)));
    stop.addEventListener("click", () => { end(); go.focus(); });
    group.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && now >= 0) { end(); go.focus(); }
    });
    // Pausing one of the players, or playing another example, ends the switch.
    // Events arrive late, so the current state of the player decides.
    players.forEach((player) => {
      player.addEventListener("pause", () => { if (now >= 0 && player.paused && !player.seeking) end(); });
      for (const use of ["seeking", "play"]) player.addEventListener(use, () => { if (now < 0) touched = player; });
    });
    box.hidden = false;
  });

  // Browsers limit the number of loaded players, so those far from the viewport are unloaded.
  const waiting = document.querySelectorAll("audio[preload=none]");
  if ("IntersectionObserver" in window) {
    const watch = new IntersectionObserver((entries) => entries.forEach(({ target, isIntersecting }) => {
      const wanted = isIntersecting ? "metadata" : "none";
      if (target.preload === wanted || !target.paused) return;
      target.preload = wanted;
      target.load();
    }), { rootMargin: "600px 0px" });
    waiting.forEach((player) => watch.observe(player));
  }

  // A box that does not scroll takes no keyboard focus.
  const boxes = [...document.querySelectorAll(".scroll")];
  const setFocusable = () => boxes.forEach((box) => {
    const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    box.tabIndex = scrolls ? 0 : -1;
    box.previousElementSibling.hidden = box.scrollWidth <= box.clientWidth;
  });
  addEventListener("resize", setFocusable);
  // Boxes in details have no size before they are opened.
  document.querySelectorAll("details").forEach((one) => one.addEventListener("toggle", setFocusable));
  setFocusable();
})();
