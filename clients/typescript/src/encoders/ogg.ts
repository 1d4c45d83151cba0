/** Ogg (RFC 3533) and the heads of Opus in it (RFC 7845), as far as one stream of packets needs them. */

const HEADER_BYTES = 27;
const MOST_SEGMENTS = 255;
const FIRST = 2;
const LAST = 4;

/** Writes the pages of one logical stream. */
export class OggWriter {
  readonly #serial: number;
  #number = 0;

  /** Streams that follow one another must differ in `serial`, 32 bits. */
  constructor(serial: number) {
    this.#serial = serial;
  }

  /**
   * Returns a page of whole packets; `granule` is the position at the end of the last one. The first page has the head
   * for itself. Raises RangeError for more than a page can hold, 65,025 bytes or less.
   */
  page(packets: readonly Uint8Array[], granule: number, last = false): Uint8Array {
    const lacing = packets.flatMap(segments);
    if (lacing.length > MOST_SEGMENTS) throw new RangeError("These packets do not fit into a page of Ogg.");
    const head = HEADER_BYTES + lacing.length;
    const page = new Uint8Array(packets.reduce((sum, { length }) => sum + length, head));
    const view = new DataView(page.buffer);
    page.set(ascii("OggS"));
    view.setUint8(5, (this.#number ? 0 : FIRST) | (last ? LAST : 0));
    view.setUint32(6, granule % 2 ** 32, true);
    view.setUint32(10, Math.floor(granule / 2 ** 32), true);
    view.setUint32(14, this.#serial, true);
    view.setUint32(18, this.#number++, true);
    view.setUint8(26, lacing.length);
    page.set(lacing, HEADER_BYTES);
    let at = head;
    for (const packet of packets) {
      page.set(packet, at);
      at += packet.length;
    }
    view.setUint32(22, crc32(page), true);
    return page;
  }
}

/** Mono; `preSkip` is what to leave out at the beginning, at 48 kHz, and `rateHz` what it was recorded at. */
export function opusHead(preSkip: number, rateHz: number): Uint8Array {
  const head = new Uint8Array(19);
  const view = new DataView(head.buffer);
  head.set(ascii("OpusHead"));
  view.setUint8(8, 1); // version
  view.setUint8(9, 1); // channels
  view.setUint16(10, preSkip, true);
  view.setUint32(12, rateHz, true);
  return head; // no gain, mapping family 0
}

export function opusTags(vendor: string): Uint8Array {
  const tags = new Uint8Array(16 + vendor.length);
  tags.set(ascii("OpusTags"));
  new DataView(tags.buffer).setUint32(8, vendor.length, true);
  tags.set(ascii(vendor), 12);
  return tags; // no comments
}

/** The sizes of the segments that a packet is cut into; one of less than 255 bytes ends it. */
function segments({ length }: Uint8Array): number[] {
  return [...Array<number>(Math.floor(length / 255)).fill(255), length % 255];
}

function ascii(text: string): number[] {
  return Array.from(text, (character) => character.charCodeAt(0));
}

/** Ogg's own: most significant bit first, neither begun nor ended with ones. */
function crc32(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) crc = (crc << 8) ^ CRC_TABLE[(crc >>> 24) ^ byte]!;
  return crc >>> 0;
}

const CRC_TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 24;
  for (let bit = 0; bit < 8; bit++) crc = (crc << 1) ^ (crc < 0 ? 0x04c11db7 : 0);
  return crc;
});
