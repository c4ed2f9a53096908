// One player at a time, a switch between the sounds of an example, and players that wait until they are near.
"use strict";
(() => {
  const clear = (group) => group.querySelectorAll(".hearing").forEach((e) => e.classList.remove("hearing"));

  document.addEventListener("play", (event) => {
    if (event.target.paused) return; // already stopped again
    document.querySelectorAll("audio").forEach((other) => {
      if (other !== event.target) other.pause();
    });
  }, true);

  document.querySelectorAll("[data-switch]").forEach((group) => {
    const players = [...group.querySelectorAll("audio")];
    const box = group.querySelector(".switch");
    if (players.length < 2 || !box) return;
    const [go, stop] = box.querySelectorAll("button");
    const said = box.querySelector("[role=status]");
    const idle = go.textContent;
    let now = -1; // which one is heard, -1 none
    let position = 0;

    const end = () => {
      if (now < 0) return;
      players.forEach((player) => { player.loop = false; });
      now = -1;
      clear(group);
      go.textContent = idle;
      stop.hidden = true;
      said.textContent = "";
    };
    const hear = (next) => {
      const before = players[now];
      position = before ? before.currentTime : players[next].currentTime;
      now = next;
      players.forEach((player) => { player.loop = true; });
      const player = players[now];
      const begin = () => {
        if (players[now] !== player) return;
        players.forEach((other) => { if (other !== player) other.pause(); });
        player.currentTime = player.duration ? position % player.duration : 0;
        // Who switches on before it has begun to sound ends this wish, not the switch.
        player.play().catch((error) => { if (players[now] === player && error.name !== "AbortError") end(); });
      };
      if (player.readyState > 0) begin();
      else {
        player.addEventListener("loadedmetadata", begin, { once: true });
        player.preload = "auto";
        player.load();
      }
      clear(group);
      player.parentElement.classList.add("hearing");
      const after = players[(now + 1) % players.length];
      go.textContent = "Switch to " + after.dataset.name;
      stop.hidden = false;
      said.textContent = "You hear: " + player.dataset.name;
    };
    go.addEventListener("click", () => hear((now + 1) % players.length));
    stop.addEventListener("click", () => {
      players.forEach((player) => player.pause());
      end();
      go.focus();
    });
    // Whoever uses the players themselves, or those of another example, has left the switch.
    // Events come late: what counts is how the player stands by then.
    players.forEach((player, i) => {
      player.addEventListener("play", () => { if (now >= 0 && i !== now && !player.paused) end(); });
      player.addEventListener("pause", () => { if (i === now && player.paused) end(); });
    });
    box.hidden = false;
  });

  // A browser can hold so many players only: those far away are given back.
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
})();
