"""What the server does in one step: Lua scripts, for Valkey, and for Redis from version 5 on.

A session has five keys, in this order in `KEYS`: the record, a hash; its highest fencing token, a string
that outlives the record; and its three logs, lists. The hash has `user`, `node`, `state` and `digests`
(words), the `fence` under which it was written, the `sequence` of the save that wrote it, and of each log the
number of the `first` entry and the `length`.

Time is the server's own, so that nodes whose clocks differ agree.
"""

from __future__ import annotations

import hashlib
from typing import Final

from msgspec import Struct

Argument = str | bytes | int


class Script(Struct, frozen=True):
    """A script, and the name that a server which has seen it knows it by."""

    text: str
    sha: str

    def __call__(self, keys: tuple[str, ...] = (), *arguments: Argument) -> Call:
        """Return the call of the script with these."""
        return Call(self, keys, arguments)


class Call(Struct, frozen=True):
    """A script that is to be run, and with what."""

    script: Script
    keys: tuple[str, ...]
    arguments: tuple[Argument, ...]


def _script(text: str) -> Script:
    # SHA-1 is the protocol's choice, and not for secrecy.
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


_MILLISECONDS: Final = """
local function milliseconds()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
"""

_HIGHEST: Final = """
local function highest()
  local known = tonumber(redis.call('GET', KEYS[2]) or 0)
  return math.max(known, tonumber(redis.call('HGET', KEYS[1], 'fence') or 0))
end
"""

CLOCK: Final = _script(f"{_MILLISECONDS} return milliseconds()")
"""Return the server's time, ms."""

PROBE: Final = _script("""
redis.call('SET', KEYS[1], '', 'PX', 1000)
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[1], '')
return redis.call('TIME')
""")
"""Do a little of what the others do, so that what is not allowed shows. KEYS: any; ARGV: channel."""

SAVE: Final = _script(
    _HIGHEST
    + """
local SAVED, FENCED, INCOMPLETE = 0, 1, 2
local fence, sequence = tonumber(ARGV[1]), tonumber(ARGV[2])
local stored = redis.call('HMGET', KEYS[1], 'fence', 'sequence',
  'first1', 'length1', 'first2', 'length2', 'first3', 'length3')
-- What was written under another token is not what this change goes on from.
local known = tonumber(stored[1] or -1) == fence
if highest() > fence or (known and tonumber(stored[2]) > sequence) then
  return FENCED
end

local logs, added_at = {}, 21
for place = 1, 3 do
  local argument = 5 + 4 * place
  local log = {
    key = KEYS[2 + place],
    first = tonumber(ARGV[argument]),
    length = tonumber(ARGV[argument + 1]),
    added = tonumber(ARGV[argument + 3]),
    added_at = added_at,
  }
  added_at = added_at + log.added
  log.stay = log.first + log.length - log.added
  log.fresh = ARGV[argument + 2] == '1' or (known and log.added == log.length)
  if not log.fresh then
    if not known then
      return INCOMPLETE
    end
    log.old_first = tonumber(stored[1 + 2 * place])
    local old_length = tonumber(stored[2 + 2 * place])
    log.old_end = log.old_first + old_length
    if log.first < log.old_first or log.stay < log.first or log.old_end < log.stay
        or redis.call('LLEN', log.key) ~= old_length then
      return INCOMPLETE
    end
  end
  logs[place] = log
end

for _, log in ipairs(logs) do
  if log.fresh then
    redis.call('DEL', log.key)
  elseif log.old_first < log.first or log.stay < log.old_end then
    redis.call('LTRIM', log.key, log.first - log.old_first, log.stay - log.old_first - 1)
  end
  -- In parts, since the stack of Lua is bounded.
  local ends = log.added_at + log.added - 1
  for part = log.added_at, ends, 1000 do
    redis.call('RPUSH', log.key, unpack(ARGV, part, math.min(part + 999, ends)))
  end
  redis.call('PEXPIRE', log.key, ARGV[7])
end
redis.call('HSET', KEYS[1], 'fence', ARGV[1], 'sequence', ARGV[2], 'user', ARGV[3], 'node', ARGV[4],
  'digests', ARGV[5], 'state', ARGV[6], 'first1', ARGV[9], 'length1', ARGV[10],
  'first2', ARGV[13], 'length2', ARGV[14], 'first3', ARGV[17], 'length3', ARGV[18])
redis.call('PEXPIRE', KEYS[1], ARGV[7])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[8])
return SAVED
"""
)
"""Save a session; return the value of a `Verdict`.

ARGV: 1 fence, 2 sequence, 3 user, 4 node, 5 digests, 6 state, 7 ms that the record lives, 8 ms that the token
does; from 9 on, of each log, first, length, whole (1 or 0) and the count of what is added; from 21 on, that.

A save that nobody waited for any longer may lie in the buffer of a server that was stopped, and be run after
one that was sent later, by another connection: hence the sequence.
"""

CLAIM: Final = _script(
    _MILLISECONDS
    + _HIGHEST
    + """
if milliseconds() > tonumber(ARGV[1]) then
  return 'late'
end
local stored = redis.call('HMGET', KEYS[1], 'user', 'digests', 'node', 'state',
  'first1', 'length1', 'first2', 'length2', 'first3', 'length3')
if not stored[1] then
  local info = redis.pcall('INFO', 'server')
  local uptime_s = type(info) == 'string' and string.match(info, 'uptime_in_seconds:(%d+)')
  return uptime_s and tonumber(uptime_s) < tonumber(ARGV[9]) and 'young' or false
end
if stored[1] ~= ARGV[2] then
  return false
end
local good = false
for digest in string.gmatch(stored[2], '[^ ]+') do
  good = good or digest == ARGV[3]
end
local found = {0, stored[4]}
for place = 1, 3 do
  local entries = redis.call('LRANGE', KEYS[2 + place], 0, -1)
  -- A server that is short of memory may have dropped the list alone.
  good = good and #entries == tonumber(stored[4 + 2 * place])
  found[1 + 2 * place] = tonumber(stored[3 + 2 * place])
  found[2 + 2 * place] = entries
end
if not good then
  return false
end

local fence = highest() + 1
found[1] = fence
redis.call('HSET', KEYS[1], 'fence', fence, 'sequence', 0, 'node', ARGV[4], 'digests', ARGV[3])
redis.call('SET', KEYS[2], fence, 'PX', ARGV[6])
for _, place in ipairs({1, 3, 4, 5}) do
  redis.call('PEXPIRE', KEYS[place], ARGV[5])
end
redis.call('PUBLISH', ARGV[7] .. stored[3], fence .. ' ' .. ARGV[8])
return found
"""
)
"""Take a session over; return fence, state, and of each log first and entries. Nil: it may not be; or "late".

ARGV: 1 the server's time in ms after which nobody waits for the answer (a later claim would be undone),
2 user, 3 digest, 4 node, 5 ms that the record lives, 6 ms that the token does, 7 the prefix of the
channels of nodes, 8 session, 9 s for which a server that does not know it may be about to be told: "young".
"""

DELETE: Final = _script(
    _HIGHEST
    + """
local fence = tonumber(ARGV[1])
if highest() <= fence then
  redis.call('DEL', KEYS[1], KEYS[3], KEYS[4], KEYS[5])
  redis.call('SET', KEYS[2], fence + 1, 'PX', ARGV[2])
end
"""
)
"""Forget a session. ARGV: 1 fence, 2 ms that the token lives."""

ADMIT: Final = _script(
    _MILLISECONDS
    + """
local now = milliseconds()
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  return 0
end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""
)
"""Count a member in; return whether it is.

KEYS: a user's members, a sorted set of the times (the server's, ms) until which they count. ARGV: 1 member,
2 limit, 3 ms that it counts.
"""

LEAVE: Final = _script("return redis.call('ZREM', KEYS[1], ARGV[1])")
"""Count a member out. KEYS: as `ADMIT`; ARGV: member."""

REFRESH: Final = _script(
    _MILLISECONDS
    + """
local ends = milliseconds() + ARGV[1]
for place = 2, #ARGV do
  redis.call('ZADD', KEYS[1], ends, ARGV[place])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""
)
"""Keep a user's members counted in. KEYS: as `ADMIT`; ARGV: 1 ms that they count, then the members."""
