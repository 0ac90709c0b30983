"""What the Redis store does in one step, as Lua that the server runs whole.

Numbers of up to 64 bits stay text in Lua, whose own are doubles; the server adds them. Times
are microseconds. Ended values are told apart by their own end, so that every verb reads one
clock; the server's expiry only clears them away later.

Source: https://redis.io/docs/latest/develop/programmability/lua-api/
"""

import hashlib
from dataclasses import dataclass, field

_CLOCK = """
local function clock(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
local function whole(number) return string.format('%.0f', number) end
local function clear_later(key, length) redis.call('PEXPIRE', key, whole(length / 1000 + 60000)) end
"""

CHANGES_KEPT = 20_000
"""Most changes that a watcher may have missed before it has to list everything anew."""

_WRITTEN = """
local function revision_of(record) return record and string.match(record, '^%d+') or '0' end
local function written(key)
  local revision = whole(redis.call('INCR', KEYS[3]))
  redis.call('ZADD', KEYS[4], revision, key)
  local many = redis.call('ZCARD', KEYS[4])
  if many > CHANGES_KEPT then
    local popped = redis.call('ZPOPMIN', KEYS[4], math.floor(many / 2))
    redis.call('SET', KEYS[5], popped[#popped])
  end
  redis.call('PUBLISH', KEYS[6], key)
  return revision
end
""".replace("CHANGES_KEPT", str(CHANGES_KEPT))


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the digest that it is called by."""

    text: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "digest", digest)


PUT = Script(
    _CLOCK
    + _WRITTEN
    + """
local key, expect, body = ARGV[1], ARGV[2], ARGV[3]
local found = revision_of(redis.call('HGET', KEYS[1], key))
if expect ~= '' and expect ~= found then return {0, found} end
local revision = written(key)
redis.call('HSET', KEYS[1], key, revision .. ':' .. body)
redis.call('ZADD', KEYS[2], 0, key)
return {1, revision}
"""
)
"""Keys: records, names, revision, changes, forgotten, channel. Args: key, expect, body."""

DELETE = Script(
    _CLOCK
    + _WRITTEN
    + """
local key, expect = ARGV[1], ARGV[2]
local found = revision_of(redis.call('HGET', KEYS[1], key))
if expect ~= '' and expect ~= found then return {0, found} end
if found == '0' then return {1, 0} end
written(key)
redis.call('HDEL', KEYS[1], key)
redis.call('ZREM', KEYS[2], key)
return {1, 1}
"""
)
"""Keys: as `PUT`. Args: key, expect."""

LIST = Script(
    """
local names
if ARGV[1] == '' then
  names = redis.call('ZRANGE', KEYS[2], '-', '+', 'BYLEX')
else
  names = redis.call('ZRANGE', KEYS[2], '[' .. ARGV[1], '(' .. ARGV[1] .. '\\255', 'BYLEX')
end
local found = {redis.call('GET', KEYS[3]) or '0'}
for from = 1, #names, 1000 do
  local till = math.min(from + 999, #names)
  local records = redis.call('HMGET', KEYS[1], unpack(names, from, till))
  for i, record in ipairs(records) do
    found[#found + 1] = names[from + i - 1]
    found[#found + 1] = record
  end
end
return found
"""
)
"""Keys: records, names, revision. Args: prefix. Returns the revision, then keys and records."""

CHANGED = Script(
    """
local revision = redis.call('GET', KEYS[2]) or '0'
local since = tonumber(ARGV[1])
if tonumber(revision) < since or tonumber(redis.call('GET', KEYS[4]) or '0') > since then
  return {revision, 0}
end
local found = {revision, 1}
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[1], '+inf')) do
  if string.sub(key, 1, #ARGV[2]) == ARGV[2] then
    found[#found + 1] = key
    found[#found + 1] = redis.call('HGET', KEYS[1], key)
  end
end
return found
"""
)
"""Keys: records, revision, changes, forgotten. Args: revision, prefix.

Returns the revision now, whether the changes since are known, then keys and records or null.
"""

LEASE = Script(
    _CLOCK
    + """
local holder, length, now = ARGV[1], tonumber(ARGV[2]), clock(ARGV[3])
local held = redis.call('HMGET', KEYS[1], 'holder', 'ends')
if held[1] and held[1] ~= holder and tonumber(held[2]) > now then return {0} end
local ends = whole(now + length)
redis.call('HSET', KEYS[1], 'holder', holder, 'ends', ends)
clear_later(KEYS[1], length)
return {1, ends}
"""
)
"""Keys: lease. Args: holder, length, now. Returns whether it is held, and its end."""

RELEASE = Script(
    "if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then redis.call('DEL', KEYS[1]) end"
)
"""Keys: lease. Args: holder."""

APPEND = Script(
    """
local new = 0
if redis.call('EXISTS', KEYS[4]) == 0 then
  redis.call('SET', KEYS[4], redis.call('SCARD', KEYS[2]))
end
for at = 1, #ARGV, 2 do
  local id = ARGV[at]
  if not redis.call('ZSCORE', KEYS[3], id) and redis.call('SADD', KEYS[2], id) == 1 then
    local offset = redis.call('INCR', KEYS[4])
    redis.call('XADD', KEYS[1], offset .. '-0', 'id', id, 'body', ARGV[at + 1])
    new = new + 1
  end
end
return new
"""
)
"""Keys: stream, ids, trimmed ids by offset, last offset. Args: id and body of each event.

Returns how many were new. A log of a version that kept no last offset has as many ids.
"""

TRIM = Script(
    """
local before, forget, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local removed = 0
while before > 0 and removed < most do
  local count, till = math.min(AT_ONCE, most - removed), '(' .. ARGV[1] .. '-0'
  local events = redis.call('XRANGE', KEYS[1], '-', till, 'COUNT', count)
  for _, event in ipairs(events) do
    local id, name = event[1], event[2][2]
    redis.call('XDEL', KEYS[1], id)
    redis.call('SREM', KEYS[2], name)
    redis.call('ZADD', KEYS[3], string.match(id, '^%d+'), name)
    removed = removed + 1
  end
  if #events < count then break end
end
local last = '(' .. ARGV[2]
local ids = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', last, 'LIMIT', 0, most)
for _, name in ipairs(ids) do redis.call('ZREM', KEYS[3], name) end
return removed + #ids
""".replace("AT_ONCE", "16")
)
"""Keys: as `APPEND`. Args: first offset that stays, first that is not forgotten, most of each.

Returns how many events and ids were removed.
"""

ADVANCE = Script(
    _CLOCK
    + """
local function less(one, other)
  local minus = string.sub(one, 1, 1) == '-'
  if minus ~= (string.sub(other, 1, 1) == '-') then return minus end
  if minus then one, other = string.sub(other, 2), string.sub(one, 2) end
  if #one ~= #other then return #one < #other end
  return one < other
end
local function sum(key, base, n)
  if #base < 15 and #n < 15 then return whole(base + n) end
  redis.call('HSET', key, 'value', base)
  local added = redis.pcall('HINCRBY', key, 'value', n)
  if type(added) == 'table' then return nil end
  return redis.call('HGET', key, 'value')
end
local now, results = clock(ARGV[1]), {}
for i, key in ipairs(KEYS) do
  local at = i * 4 - 2
  local n, floor, most, length = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local held = redis.call('HMGET', key, 'value', 'ends')
  local base, passed = '0', 1
  if held[1] and tonumber(held[2]) > now then base = held[1] end
  if floor ~= '' and less(base, floor) then base = floor end
  local value = n == '0' and base or sum(key, base, n)
  if value == nil or (most ~= '' and less(most, value)) then
    passed = value == nil and -1 or 0
    value = base
    if held[1] then redis.call('HSET', key, 'value', held[1]) else redis.call('DEL', key) end
  elseif n ~= '0' then
    redis.call('HSET', key, 'value', value, 'ends', whole(now + length))
    clear_later(key, length)
  end
  results[2 * i - 1], results[2 * i] = value, passed
  if passed < 0 then break end
end
return results
"""
)
"""Keys: levels. Args: now, then n, floor, most and length of each step.

Returns value and outcome of each: 1 passed, 0 not, -1 (the last) outside 64 bits.
"""

HOLD = Script(
    _CLOCK
    + """
local now, results = clock(ARGV[1]), {}
for i, key in ipairs(KEYS) do
  local at = i * 4 - 2
  local holder, amount = ARGV[at], tonumber(ARGV[at + 1])
  local most, length = ARGV[at + 2], tonumber(ARGV[at + 3])
  local shares, total, mine, last = redis.call('HGETALL', key), 0, 0, now
  for j = 1, #shares, 2 do
    local share, ends = string.match(shares[j + 1], '^(%d+):(%d+)$')
    if tonumber(ends) > now then
      total, last = total + share, math.max(last, tonumber(ends))
      if shares[j] == holder then mine = tonumber(share) end
    else
      redis.call('HDEL', key, shares[j])
    end
  end
  local after, passed = total - mine + amount, 1
  if amount > mine and most ~= '' and after > tonumber(most) then
    after, passed = total, 0
  elseif amount == 0 then
    redis.call('HDEL', key, holder)
  else
    redis.call('HSET', key, holder, whole(amount) .. ':' .. whole(now + length))
    clear_later(key, math.max(last - now, length))
  end
  results[2 * i - 1], results[2 * i] = whole(after), passed
end
return results
"""
)
"""Keys: names. Args: now, then holder, amount, most and length of each claim.

Returns total and whether it passed, of each.
"""
