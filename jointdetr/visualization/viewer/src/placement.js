// From millimetres in camera axes (x right, y down, z forward) to the scene: metres, x right, y up, z to the viewer,
// the ground at y = 0 and the people around the origin.

const METRES = 0.001;
const SPACING = 1.2; // metres between people of whom no place is known
const LIVE = { x: 1, y: 1.8, z: 1 }; // metres that a live person may fill
const STRAY = 0.005; // share of joints that may lie outside of what the camera is set up for

/**
 * Places everybody for every frame.
 * @param data skeleton, people, times as `mount` takes them
 * @param live whether frames follow of which nothing is known: roots stay in their place, the lowest joint on the ground
 * @returns {{people: Float32Array[], size: {x: number, y: number, z: number}}} for each person x, y, z of every joint
 *   of every frame, NaN where it is missing; and how wide, high and deep they all are together
 */
export function placePeople(data, live = false) {
  const placesKnown = data.people.every((person) => person.root);
  const people = data.people.map((person, index) => {
    const shift = placesKnown ? 0 : (index - (data.people.length - 1) / 2) * SPACING;
    return flatten(person, placesKnown, shift);
  });
  const ranges = [0, 1, 2].map((axis) => rangeOf(people, axis));
  const origin = live ? [0, ranges[1][0], 0] : [middle(ranges[0]), ranges[1][0], middle(ranges[2])];
  for (const positions of people) {
    for (let index = 0; index < positions.length; index++) positions[index] -= origin[index % 3];
  }
  if (live) return { people, size: { ...LIVE, x: LIVE.x + Math.max(people.length - 1, 0) * SPACING } };
  const [x, y, z] = ranges.map(([low, high]) => high - low);
  return { people, size: { x, y, z } };
}

function flatten(person, placesKnown, shift) {
  const count = person.joints.length ? person.joints[0].length : 0;
  const positions = new Float32Array(person.joints.length * count * 3).fill(NaN);
  let root = [0, 0, 0];
  person.joints.forEach((joints, frame) => {
    if (placesKnown && person.root[frame]) root = person.root[frame]; // an unknown place is the last known one
    joints.forEach((joint, number) => {
      if (!joint || joint.some((value) => value === null)) return;
      const x = (joint[0] + root[0]) * METRES + shift;
      positions.set([x, -(joint[1] + root[1]) * METRES, -(joint[2] + root[2]) * METRES], (frame * count + number) * 3);
    });
  });
  return positions;
}

function rangeOf(people, axis) {
  const values = people.flatMap((positions) =>
    Array.from(positions.filter((value, index) => index % 3 === axis && Number.isFinite(value))),
  );
  if (!values.length) return [0, axis === 1 ? 1.7 : 0]; // nobody: as if somebody stood here
  values.sort((first, second) => first - second);
  const stray = Math.floor((values.length - 1) * STRAY);
  return [values[stray], values[values.length - 1 - stray]];
}

function middle([low, high]) {
  return (low + high) / 2;
}
