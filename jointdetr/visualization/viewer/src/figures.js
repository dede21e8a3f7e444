// The people of one frame as tubes and balls. A joint that was not seen is hollow, and a bone to it is dashed.
import * as THREE from "three";

const BONE_RADIUS = 0.014;
const JOINT_RADIUS = 0.024;
const RIM = 1.3; // size of a hollow joint's rim, of the joint
const DASHES = 4;
const CROWD = 8; // people from which on they are drawn with fewer triangles
const UP = new THREE.Vector3(0, 1, 0);

/** Bones of a skeleton as pairs of joint numbers, parent first. */
function bonesOf(parents) {
  return parents.map((parent, child) => [parent, child]).filter(([parent]) => parent >= 0);
}

function instances(geometry, material, capacity) {
  const mesh = new THREE.InstancedMesh(geometry, material, Math.max(capacity, 1));
  mesh.frustumCulled = false; // its bounds change with every frame
  mesh.count = 0;
  return mesh;
}

export class Figures {
  /** @param positions what `placePeople` returns for each person */
  constructor(data, positions) {
    this.data = data;
    this.positions = positions;
    this.bones = bonesOf(data.skeleton.parents);
    this.frame = 0;
    const { length: people } = data.people;
    const joints = data.skeleton.joints.length;
    const [around, along] = people < CROWD ? [20, 14] : [8, 6];
    const ball = new THREE.SphereGeometry(1, around, along);
    const tube = new THREE.CylinderGeometry(1, 1, 1, around / 2, 1, true);
    this.tubes = instances(tube, new THREE.MeshLambertMaterial(), people * this.bones.length * DASHES);
    this.balls = instances(ball, new THREE.MeshLambertMaterial(), people * joints);
    this.hollows = instances(ball, new THREE.MeshBasicMaterial(), people * joints);
    this.rims = instances(ball, new THREE.MeshBasicMaterial({ side: THREE.BackSide }), people * joints);
    this.meshes = [this.tubes, this.balls, this.hollows, this.rims];
    this.group = new THREE.Group();
    this.group.add(...this.meshes);
  }

  /** Takes other data of as many people with the same bones; returns whether it could. */
  take(data, positions) {
    const { length: people } = this.data.people;
    const fits = data.people.length === people && String(data.skeleton.parents) === String(this.data.skeleton.parents);
    if (fits) [this.data, this.positions] = [data, positions];
    return fits;
  }

  /** Draws one frame in the given colours. */
  show(frame, palette) {
    this.frame = frame;
    for (const mesh of this.meshes) mesh.count = 0;
    this.data.people.forEach((person, index) => {
      this.bones.forEach((bone) => this.#addBone(index, bone, palette));
      this.data.skeleton.joints.forEach((_, joint) => this.#addJoint(index, joint, palette));
    });
    for (const mesh of this.meshes) {
      mesh.instanceMatrix.needsUpdate = true;
      if (mesh.instanceColor) mesh.instanceColor.needsUpdate = true;
    }
  }

  /** Where a joint is in this frame, or null if it is missing. */
  position(person, joint) {
    const offset = (this.frame * this.data.skeleton.joints.length + joint) * 3;
    const [x, y, z] = this.positions[person].subarray(offset, offset + 3);
    return Number.isFinite(x) ? new THREE.Vector3(x, y, z) : null;
  }

  isSeen(person, joint) {
    return Boolean(this.data.people[person].detected[this.frame]?.[joint]);
  }

  dispose() {
    this.group.removeFromParent();
    for (const mesh of this.meshes) {
      mesh.geometry.dispose();
      mesh.material.dispose();
      mesh.dispose();
    }
  }

  #color(joint, palette) {
    return palette[this.data.skeleton.sides?.[joint] ?? "middle"];
  }

  #addBone(person, [parent, child], palette) {
    const start = this.position(person, parent);
    const end = this.position(person, child);
    if (!start || !end) return;
    const color = this.#color(child, palette); // a limb takes the side of the joint it leads to
    if (this.isSeen(person, parent) && this.isSeen(person, child)) {
      this.#addTube(start, end, color);
      return;
    }
    for (let dash = 0; dash < DASHES; dash++) {
      const [from, to] = [(dash + 0.2) / DASHES, (dash + 0.8) / DASHES];
      this.#addTube(start.clone().lerp(end, from), start.clone().lerp(end, to), color);
    }
  }

  #addTube(start, end, color) {
    const along = end.clone().sub(start);
    const length = along.length();
    const turn = new THREE.Quaternion().setFromUnitVectors(UP, along.normalize());
    const size = new THREE.Vector3(BONE_RADIUS, length, BONE_RADIUS);
    this.#add(this.tubes, new THREE.Matrix4().compose(start.lerp(end, 0.5), turn, size), color);
  }

  #addJoint(person, joint, palette) {
    const center = this.position(person, joint);
    if (!center) return;
    const color = this.#color(joint, palette);
    if (this.isSeen(person, joint)) {
      this.#addBall(this.balls, center, JOINT_RADIUS, color);
    } else {
      this.#addBall(this.hollows, center, JOINT_RADIUS, palette.guess);
      this.#addBall(this.rims, center, JOINT_RADIUS * RIM, color);
    }
  }

  #addBall(mesh, center, radius, color) {
    this.#add(mesh, new THREE.Matrix4().makeScale(radius, radius, radius).setPosition(center), color);
  }

  #add(mesh, matrix, color) {
    mesh.setMatrixAt(mesh.count, matrix);
    mesh.setColorAt(mesh.count, new THREE.Color(color));
    mesh.count += 1;
  }
}
