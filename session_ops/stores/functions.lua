#!lua name=session_v3

-- The atomic steps of sessions in Redis. Loaded by an administrator: redis-cli -x FUNCTION LOAD REPLACE < functions.lua
--
-- KEYS[1] is always the generation key, generation:<g>:{p}; the keys of sessions follow. The names of the indexes are
-- derived from it, so that every key of a call carries the hash tag {p} and no call leaves its slot.
-- Every answer begins with the generation's mode and Redis' time in ms. All arguments are checked before the first
-- write, because an error in the middle would not roll back. The last argument of every call is the caller's pin: the
-- replication id that its control row names, with a "*" in front where that row is final, "*" alone where there is no
-- control row. A guard that fails refuses the whole call, as an error:
--   WRONGSERVER  this server is not a primary, or not the one that is pinned
--   LOST         the generation key is absent: Redis has lost its data. So it is always the pinned server that says it
--   MODE         the function does not serve the generation's mode
--
-- The steps of the ownership protocol (docs/ownership.md, section 3) are PUT put, CAS update, replace and touch, KILL
-- delete, MARK mark, CREATE create, OPEN open; GET is a plain HGETALL between two calls of guard. `mode` changes the
-- generation key on the ways to mode final and back (section 9).
--
-- A session is a hash: the field "" packs the bookkeeping, every other field is an attribute's JSON value. Bookkeeping:
-- how it is filed, state, version, created, updated, expires (ms), revision, bytes of the data, number of attributes, own TTL
-- (seconds, 0: the default), length of the user; then the user and, up to the end, the agent.

local HEAD, HEAD_BYTES = '<BBI8I8I8I8c8I4I2I4I2', 54
-- How a session is filed, and the format of its bookkeeping in the low bits. Near its end it is in the expiry index,
-- under its exact time. Before that its bucket is all that knows of it, and the bucket's earliest expiry is in `due`.
local FAR, NEAR = 1, 129
-- A marker is a moved record that was never filled: its data and revision say nothing
local ACTIVE, MOVED, DELETED, MARKER = 1, 2, 3, 4
-- What an update of one session begins with: how many attributes to set, how many to remove, the new revision
local CONTROL, CONTROL_BYTES = '<I2I2', 12
-- Names and values of one update at most: beyond 8,000 `unpack` fails, and that in the middle of a batch
local MANY = 7500
-- Above this a number is not exact: 2^53
local EXACT = 9007199254740992

-- Index keys are given a TTL in whole days, so that a slide touches them once a day and not every time.
local DAY = 86400000
-- The expiry index and the ends in delivery are the agent manager's outbox: they outlive an outage of every host.
local OUTBOX_DAYS = 30
-- Small sorted sets are packed, a quarter of the bytes of large ones: 120 entries of 34 B fill an allocation of 4,096.
local BUCKET = 120
-- A session is near its end for two of these, or of margins; a bucket is looked at one of them before its time
local HOUR = 3600000
-- A page of a list examines at most this many entries and stops after this many bytes of data: it blocks Redis.
local EXAMINED, PAGE_BYTES = 1000, 1048576
-- Generation keys whose names are kept: the partitions of a Cluster, and of a generation or two before
local PLACES = 1024

-- None of these exist while the library is loaded: the first call of a function fetches them
local call, pcall, pack, unpack_head, floor, ceil, find, sub, byte, char, format, min

local CORRUPT = {err = 'CORRUPT not a session'}
local BAD_ARGUMENTS = 'ERR bad arguments, nothing was written'

-- The names that belong to a generation key, and what one call after another notes beside them: building them costs more
-- than the guards. They follow from the key alone, so that nothing here can be out of date.
local places, known = {}, 0

local function place(generation)
  local tail = sub(generation, 11)
  local sessions = 'sessions' .. tail .. ':'
  known = known + 1
  if known > PLACES then
    places, known = {}, 1
  end
  places[generation] = {
    session = 'session' .. tail .. ':', indexes = sessions, expiry = sessions .. 'expiry', created = sessions .. 'created',
    bucket = sessions .. 'created:', due = sessions .. 'due', lost = sessions .. 'lost', user = sessions .. 'user:',
    agent = sessions .. 'agent:', stats = sessions .. 'stats', ended = sessions .. 'ended',
    skip = #tail + 9,
  }
  return places[generation]
end

-- What the call at hand was made with: its pin without the "*", whether the caller's control row is final, and which
-- modes the function serves
local pin, caller_final, served

-- Which modes a function serves: any; those in which Redis alone knows all sessions, which on the ways to final and back
-- is still so in hold, as the caller's control row says; or final alone
local ANY, COMPLETE, FINAL = 0, 1, 2

local function serves(mode)
  return mode == 'final' or (served == COMPLETE and caller_final and mode == 'hold') or served == ANY
end

-- What every call begins with: the guards, the time, and the names that belong to the generation key
local function enter(generation)
  local c = places[generation or '']
  if not c then
    if not generation or not find(generation, '^generation:') then
      return nil, redis.error_reply(BAD_ARGUMENTS)
    end
    c = place(generation)
  end
  local replication = call('INFO', 'replication')
  if not find(replication, 'role:master', 1, true) then
    return nil, redis.error_reply('WRONGSERVER not a primary')
  end
  local mode = call('GET', generation)
  if not (caller_final and (mode == 'final' or pin == '')) then
    if #pin ~= 40 or not find(replication, 'master_replid:' .. pin, 1, true) then
      return nil, redis.error_reply('WRONGSERVER not the pinned server')
    end
  end
  if not mode then
    return nil, redis.error_reply('LOST no generation key')
  end
  if not serves(mode) or (mode ~= 'final' and pin == '') then
    return nil, redis.error_reply('MODE the generation is in mode ' .. mode)
  end
  local time = call('TIME')
  c.mode, c.now, c.kept, c.starts_of, c.noted, c.filed = mode, time[1] * 1000 + floor(time[2] / 1000), {}, {}, {}, 0
  return c
end

local function is_count(value)
  local number = tonumber(value)
  return number and number >= 0 and number == floor(number) and number
end

-- Up to when a session is near its end; answers how long before its time a bucket is looked at
local function look_ahead(c, margin)
  local ahead = margin > HOUR and margin or HOUR
  c.near = c.now + 2 * ahead
  return ahead
end

-- Enter a call that can move an expiry: its first arguments are margin, default TTL and maximum lifetime, all in ms.
-- `header` more follow, then those of each session: `length(args, at)` tells how many, nil when they make no sense.
local function enter_sessions(keys, args, header, length)
  local margin, ttl, lifetime = is_count(args[1]), is_count(args[2]), is_count(args[3])
  local at, starts = 4 + header, {}
  local sound = margin and ttl and ttl > 0 and lifetime
  for i = 4, 3 + header do
    sound = sound and is_count(args[i])
  end
  for i = 2, #keys do
    local taken = sound and length(args, at)
    if not taken then
      sound = false
      break
    end
    starts[i] = at
    at = at + taken
  end
  if not sound or at ~= #args + 1 then
    return nil, redis.error_reply(BAD_ARGUMENTS)
  end
  local c, refused = enter(keys[1])
  if c then
    c.margin, c.ttl, c.lifetime, c.starts, c.moved = margin, ttl, lifetime, starts, {}
    look_ahead(c, margin)
  end
  return c, refused
end

-- A session's bookkeeping, false when there is none. What is no session must not stop a batch in its middle: such a
-- key is answered by CORRUPT, for itself alone.
local function bookkeeping(key)
  local packed = pcall('HGET', key, '')
  if not packed then
    return pcall('EXISTS', key) == 1 and CORRUPT
  end
  return (packed.err or #packed < HEAD_BYTES) and CORRUPT or packed
end

-- now + ttl, rounded up to steps of ttl/20 counted from the session's creation, within the maximum lifetime (0: none).
-- `own` is the session's own TTL in seconds, 0 for the default.
local function slide(c, created, own)
  local ttl = own > 0 and own * 1000 or c.ttl
  local step = ttl / 20
  local expires = created + ceil((c.now + ttl - created) / step) * step
  if c.lifetime > 0 and expires > created + c.lifetime then
    return created + c.lifetime
  end
  return expires
end

local function last_day(expires)
  return floor(expires / DAY) + 2
end

-- Give an index a TTL up to `at` at least; the sessions of a call share most of their indexes
local function keep(c, key, at)
  if (c.kept[key] or 0) < at then
    c.kept[key] = at
    if call('PEXPIRETIME', key) < at then
      call('PEXPIREAT', key, format('%d', at))
    end
  end
end

local function keep_ends(c)
  keep(c, c.expiry, (last_day(c.near or c.now) + OUTBOX_DAYS) * DAY)
end

-- The index of all sessions is a directory of buckets. A bucket holds what was created from its start on, up to the
-- start of the next; the first one starts at 0. Answers the start of a time's bucket.
local function bucket_of(c, created)
  local start = c.starts_of[created]
  if not start then
    start = call('ZRANGE', c.created, format('%d', created), '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, 1)[1] or '0'
    c.starts_of[created] = start
  end
  return start
end

local function leave_bucket(c, start, id)
  local key = c.bucket .. start
  local removed = call('ZREM', key, id)
  if removed == 1 and call('EXISTS', key) == 0 then
    call('ZREM', c.created, start)
    call('ZREM', c.due, start)
  end
  return removed
end

local function open_bucket(c, start)
  local first = call('ZRANGE', c.created, 0, 0)[1]
  if first and first ~= start and call('EXISTS', c.bucket .. first) == 0 then
    call('ZREM', c.created, first)
  end
  call('ZADD', c.created, start, start)
end

-- Write members to an index, scores and ids alternating; answers how many are new
local function add(key, members)
  local added = 0
  for i = 1, #members, 200 do
    added = added + call('ZADD', key, unpack(members, i, min(i + 199, #members)))
  end
  return added
end

-- Begin another bucket behind a full one. New sessions come last, so that the run of the last ms moves on, or nothing;
-- sessions from elsewhere come anywhere, so that one half does. What was created in the same ms stays together.
local function split(c, start, created)
  local key = c.bucket .. start
  local first, last = call('ZRANGE', key, 0, 0, 'WITHSCORES')[2], call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
  local at = format('%d', created)
  if created <= tonumber(last) then
    if at ~= last then
      local middle = floor(call('ZCARD', key) / 2)
      at = call('ZRANGE', key, middle, middle, 'WITHSCORES')[2]
    end
    if at == first then
      at = call('ZRANGE', key, '(' .. first, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')[2]
    end
    if not at then
      return start
    end
  end
  local moving, earliest = call('ZRANGE', key, at, '+inf', 'BYSCORE', 'WITHSCORES'), call('ZSCORE', c.due, start)
  open_bucket(c, at)
  local ids = {}
  for i = 1, #moving, 2 do
    ids[#ids + 1] = moving[i]
    moving[i], moving[i + 1] = moving[i + 1], moving[i]
  end
  add(c.bucket .. at, moving)
  for i = 1, #ids, 200 do
    call('ZREM', key, unpack(ids, i, min(i + 199, #ids)))
  end
  if #moving > 0 then
    keep(c, c.bucket .. at, call('PEXPIRETIME', key))
    if earliest then
      call('ZADD', c.due, earliest, at)
    end
  end
  c.starts_of = {}
  return created >= tonumber(at) and at or start
end

-- How a session that ends then is filed
local function filing(c, expires)
  return expires < c.near and NEAR or FAR
end

-- A bucket is due no later than the first session in it that is not in the expiry index
local function note_due(c, start, expires)
  if (c.noted[start] or expires + 1) > expires then
    c.noted[start] = expires
    call('ZADD', c.due, 'LT', format('%d', expires), start)
  end
end

-- Put a session into its indexes, or put it back: this is also how they heal
local function index(c, id, user, agent, created, expires, filed)
  local at, score, start = last_day(expires) * DAY + c.margin, format('%d', created), bucket_of(c, created)
  local told = at + OUTBOX_DAYS * DAY
  local size = call('ZCARD', c.bucket .. start)
  if size == 0 or (start == '0' and not call('ZSCORE', c.created, start)) then
    open_bucket(c, start)
  elseif size >= BUCKET and not call('ZSCORE', c.bucket .. start, id) then
    start = split(c, start, created)
  end
  c.filed = c.filed + call('ZADD', c.bucket .. start, score, id)
  keep(c, c.bucket .. start, told)
  keep(c, c.created, told)
  if filed == FAR then
    note_due(c, start, expires)
    keep(c, c.due, told)
  end
  call('ZADD', c.user .. user, score, id)
  keep(c, c.user .. user, at)
  if agent ~= '' then
    call('ZADD', c.agent .. agent, score, id)
    keep(c, c.agent .. agent, at)
  end
end

-- Write what `index_later` has gathered
local function fill_buckets(c)
  local buckets = c.later.buckets
  c.later.buckets = {}
  for start, members in pairs(buckets) do
    local key, told = c.bucket .. start, members.ends + OUTBOX_DAYS * DAY
    c.filed = c.filed + add(key, members)
    keep(c, key, told)
    keep(c, c.created, told)
    if members.due then
      note_due(c, start, members.due)
      keep(c, c.due, told)
    end
  end
end

-- The bucket that has room for one more session, or as good as: what was created in the same ms stays together
local function room(c, created)
  local start, sizes = bucket_of(c, created), c.later.sizes
  if not sizes[start] then
    sizes[start] = call('ZCARD', c.bucket .. start)
    if sizes[start] == 0 or (start == '0' and not call('ZSCORE', c.created, start)) then
      fill_buckets(c)
      open_bucket(c, start)
    end
  end
  if sizes[start] >= BUCKET and c.whole[start] ~= created then
    fill_buckets(c)
    local other = split(c, start, created)
    if c.starts_of[created] then
      -- Nothing was split
      c.whole[start] = created
    else
      c.later.sizes = {[other] = call('ZCARD', c.bucket .. other)}
    end
    return other
  end
  return start
end

-- Put a session that is new here into its indexes; into the buckets at the end of the call, by `fill_buckets`
local function index_later(c, id, user, agent, created, expires, filed)
  local later, day = c.later, floor(expires / DAY)
  if created ~= later.created then
    later.created, later.score = created, format('%d', created)
  end
  local score, start, at = later.score, room(c, created), (day + 2) * DAY + c.margin
  local members = later.buckets[start]
  if not members then
    members = {ends = at}
    later.buckets[start] = members
  end
  local size = #members
  members[size + 1], members[size + 2] = score, id
  later.sizes[start] = later.sizes[start] + 1
  if at > members.ends then
    members.ends = at
  end
  if filed == FAR and expires < (members.due or expires + 1) then
    members.due = expires
  end
  local key = c.user .. user
  call('ZADD', key, score, id)
  keep(c, key, at)
  if agent ~= '' then
    key = c.agent .. agent
    call('ZADD', key, score, id)
    keep(c, key, at)
  end
end

local function leave_indexes(c, id, user, agent, created)
  call('ZREM', c.user .. user, id)
  if agent ~= '' then
    call('ZREM', c.agent .. agent, id)
  end
  return leave_bucket(c, bucket_of(c, created), id)
end

-- How many sessions are in the index of all, or ended and not yet taken by cleanup: `statistics` counts down from it
local function count_filed(c)
  if c.filed ~= 0 then
    call('HINCRBY', c.stats, 'filed', c.filed)
  end
end

-- A session whose record is gone is met twice, in its bucket and in the expiry index. Whether this is the second time.
local function met_before(c, id)
  if call('ZREM', c.lost, id) == 1 then
    return true
  end
  call('ZADD', c.lost, c.now, id)
  keep(c, c.lost, c.now + OUTBOX_DAYS * DAY)
  return false
end

-- Take an entry without a record out of its bucket; where its end is still to be told, the expiry index has it from now on
local function lose(c, start, id)
  local removed = leave_bucket(c, start, id)
  if removed == 1 and not met_before(c, id) then
    call('ZADD', c.expiry, 'NX', c.now, id)
    keep_ends(c)
  end
  return removed
end

local function unpack_owners(packed, at, length)
  return sub(packed, at, at + length - 1), sub(packed, at + length)
end

-- How a session is filed once its expiry is the later one. One that is far stays so until cleanup looks at its bucket:
-- nothing is written to an index while it is in use.
local function refile(c, filed, expires)
  return filed == NEAR and filing(c, expires) or FAR
end

-- Write the expiry where it is due: the physical one (later by the margin) and, once a day, the other indexes. The expiry
-- index gets all sessions of the call at once, from `index_moved`. A time is made text here: Redis would print it as a
-- floating-point number, which costs it as much as the write.
local function move_on(c, key, packed, at, length, created, before, expires, filed)
  call('PEXPIREAT', key, format('%d', expires + c.margin))
  if filed == NEAR then
    local moved = c.moved
    moved[#moved + 1], moved[#moved + 2] = format('%d', expires), sub(key, c.skip)
  elseif byte(packed) == NEAR then
    call('ZREM', c.expiry, sub(key, c.skip))
    note_due(c, bucket_of(c, created), expires)
  end
  if last_day(expires) ~= last_day(before) then
    local user, agent = unpack_owners(packed, at, length)
    index(c, sub(key, c.skip), user, agent, created, expires, filed)
  end
end

local function index_moved(c)
  for i = 1, #c.moved, 200 do
    call('ZADD', c.expiry, unpack(c.moved, i, min(i + 199, #c.moved)))
    keep_ends(c)
  end
end

-- create. Per session: revision, user, agent, own TTL, size, number of attributes, names and values.
-- Answers per session its expiry, or 0 when the id is in use.
local function create(keys, args)
  local c, refused = enter_sessions(keys, args, 0, function(all, at)
    local count = is_count(all[at + 5])
    if count and #all[at] == 8 and all[at + 1] ~= '' and is_count(all[at + 3]) and is_count(all[at + 4]) then
      return 6 + 2 * count
    end
  end)
  if not c then
    return refused
  end
  local answer, created, now = {c.mode, c.now}, 0, c.now
  for i = 2, #keys do
    local key, at = keys[i], c.starts[i]
    if call('EXISTS', key) == 1 then
      answer[i + 1] = 0
    else
      local user, agent, ttl, count = args[at + 1], args[at + 2], tonumber(args[at + 3]), tonumber(args[at + 5])
      local expires, id = slide(c, now, ttl), sub(key, c.skip)
      local filed = filing(c, expires)
      local packed = pack(HEAD, filed, ACTIVE, 1, now, now, expires, args[at], tonumber(args[at + 4]), count, ttl, #user)
      call('HSET', key, '', packed .. user .. agent, unpack(args, at + 6, at + 5 + 2 * count))
      local moved = c.moved
      call('PEXPIREAT', key, format('%d', expires + c.margin))
      if filed == NEAR then
        moved[#moved + 1], moved[#moved + 2] = format('%d', expires), id
      end
      index(c, id, user, agent, now, expires, filed)
      created = created + 1
      answer[i + 1] = expires
    end
  end
  index_moved(c)
  if created > 0 then
    call('HINCRBY', c.stats, 'created', created)
    count_filed(c)
  end
  return answer
end

-- update. Header: largest size, most attributes. Per session: how many to set, how many to remove, the new revision and,
-- if any, the expected one in one packed string; names and values to set; names to remove.
-- Answers per session its bookkeeping; 0: not found; 1: too large; 8 bytes: the revision that it has instead.
local function update_one(c, key, args, at, set, removed, largest, most)
  local control, remove, old = args[at], at + 1 + 2 * set
  if set == 1 and removed == 0 then
    old = pcall('HMGET', key, '', args[at + 1])
  else
    local fields = {}
    for j = 1, set do
      fields[j] = args[at + 2 * j - 1]
    end
    for j = 1, removed do
      fields[set + j] = args[remove + j - 1]
    end
    old = pcall('HMGET', key, '', unpack(fields))
  end
  local packed = old[1]
  if not packed or #packed < HEAD_BYTES then
    return bookkeeping(key) or 0
  end
  local filed, state, version, created, _, expires, revision, size, count, ttl, length, owners = unpack_head(HEAD, packed)
  if state ~= ACTIVE or expires <= c.now then
    return 0
  end
  if #control > CONTROL_BYTES and sub(control, CONTROL_BYTES + 1) ~= revision then
    return revision
  end
  local new_size, new_count = size, count
  for j = 1, set do
    local value = old[j + 1]
    if value then
      new_size = new_size - #value
    else
      new_size = new_size + #args[at + 2 * j - 1]
      new_count = new_count + 1
    end
    new_size = new_size + #args[at + 2 * j]
  end
  for j = 1, removed do
    local value = old[set + j + 1]
    if value then
      new_size = new_size - #value - #args[remove + j - 1]
      new_count = new_count - 1
    end
  end
  -- What is already larger, under an earlier limit, may shrink
  if (new_size > largest and new_size > size) or (new_count > most and new_count > count) then
    return 1
  end
  local moved = slide(c, created, ttl)
  if moved > expires then
    filed = refile(c, filed, moved)
  else
    moved = expires
  end
  local head = pack(HEAD, filed, ACTIVE, version + 1, created, c.now, moved, sub(control, 5), new_size, new_count, ttl,
    length) .. sub(packed, owners)
  if set == 1 then
    call('HSET', key, '', head, args[at + 1], args[at + 2])
  else
    call('HSET', key, '', head, unpack(args, at + 1, remove - 1))
  end
  if removed > 0 then
    call('HDEL', key, unpack(args, remove, remove + removed - 1))
  end
  if moved > expires then
    move_on(c, key, packed, owners, length, created, expires, moved, filed)
  end
  return head
end

local function update(keys, args)
  -- The hottest function: what enter_sessions would ask a closure for is read in line, once
  local starts, sets, removes, at = {}, {}, {}, 6
  for i = 2, #keys do
    local control = args[at]
    if not control or (#control ~= CONTROL_BYTES and #control ~= CONTROL_BYTES + 8) then
      return redis.error_reply(BAD_ARGUMENTS)
    end
    local set, removed = unpack_head(CONTROL, control)
    if 2 * set + removed > MANY then
      return redis.error_reply(BAD_ARGUMENTS)
    end
    starts[i], sets[i], removes[i] = at, set, removed
    at = at + 1 + 2 * set + removed
  end
  local largest, most = is_count(args[4]), is_count(args[5])
  if not largest or not most or at ~= #args + 1 then
    return redis.error_reply(BAD_ARGUMENTS)
  end
  local c, refused = enter_sessions({keys[1]}, {args[1], args[2], args[3]}, 0)
  if not c then
    return refused
  end
  local answer = {c.mode, c.now}
  for i = 2, #keys do
    answer[i + 1] = update_one(c, keys[i], args, starts[i], sets[i], removes[i], largest, most)
  end
  index_moved(c)
  return answer
end

-- replace. Per session: expected revision or '', new revision, size, number of attributes, names and values.
-- Answers as update.
local function replace_one(c, key, args, at)
  local packed = bookkeeping(key)
  if not packed or packed == CORRUPT then
    return packed or 0
  end
  local filed, state, version, created, _, expires, revision, _, _, ttl, length, owners = unpack_head(HEAD, packed)
  if state ~= ACTIVE or expires <= c.now then
    return 0
  end
  if args[at] ~= '' and args[at] ~= revision then
    return revision
  end
  local moved, count = slide(c, created, ttl), tonumber(args[at + 3])
  if moved > expires then
    filed = refile(c, filed, moved)
  else
    moved = expires
  end
  local head = pack(HEAD, filed, ACTIVE, version + 1, created, c.now, moved, args[at + 1], tonumber(args[at + 2]), count,
    ttl, length) .. sub(packed, owners)
  call('DEL', key)
  call('HSET', key, '', head, unpack(args, at + 4, at + 3 + 2 * count))
  if moved > expires then
    move_on(c, key, packed, owners, length, created, expires, moved, filed)
  else
    call('PEXPIREAT', key, format('%d', expires + c.margin))
  end
  return head
end

local function replace(keys, args)
  local c, refused = enter_sessions(keys, args, 0, function(all, at)
    local count = is_count(all[at + 3])
    if count and is_count(all[at + 2]) and (all[at] == '' or #all[at] == 8) and #all[at + 1] == 8 then
      return 4 + 2 * count
    end
  end)
  if not c then
    return refused
  end
  local answer = {c.mode, c.now}
  for i = 2, #keys do
    answer[i + 1] = replace_one(c, keys[i], args, c.starts[i])
  end
  index_moved(c)
  return answer
end

-- touch: a write of unchanged data where the expiry moves, else nothing. Answers per session its bookkeeping, alone in
-- an array where nothing was written, or 0.
local function touch(keys, args)
  local c, refused = enter_sessions(keys, args, 0, function() return 0 end)
  if not c then
    return refused
  end
  local answer = {c.mode, c.now}
  for i = 2, #keys do
    local key = keys[i]
    local packed = bookkeeping(key)
    answer[i + 1] = packed or 0
    if packed and packed ~= CORRUPT then
      answer[i + 1] = 0
      local filed, state, version, created, updated, expires, revision, size, count, ttl, length, owners = unpack_head(HEAD, packed)
      if state == ACTIVE and expires > c.now then
        local moved = slide(c, created, ttl)
        if moved > expires then
          filed = refile(c, filed, moved)
          local head = pack(HEAD, filed, ACTIVE, version + 1, created, updated, moved, revision, size, count, ttl, length)
            .. sub(packed, owners)
          call('HSET', key, '', head)
          move_on(c, key, packed, owners, length, created, expires, moved, filed)
          answer[i + 1] = head
        else
          answer[i + 1] = {packed}
        end
      end
    end
  end
  index_moved(c)
  return answer
end

-- The protocol's KILL: the session becomes a tombstone that lives as long as the session would have. In the expiry index
-- it moves to now, which is where cleanup finds it. Answers the tombstone's bookkeeping, alone in an array where it was
-- there already; 0: not found; 8 bytes: the revision that it has instead.
local function kill(c, key, expected)
  local packed = bookkeeping(key)
  if not packed or packed == CORRUPT then
    return packed or 0
  end
  local _, state, version, created, _, expires, revision, _, _, ttl, length, owners = unpack_head(HEAD, packed)
  if state == DELETED then
    return {packed}
  end
  if state ~= ACTIVE or expires <= c.now then
    return 0
  end
  if expected ~= '' and expected ~= revision then
    return revision
  end
  local id, user, agent = sub(key, c.skip), unpack_owners(packed, owners, length)
  local head = pack(HEAD, NEAR, DELETED, version + 1, created, c.now, expires, revision, 0, 0, ttl, length)
    .. user .. agent
  call('DEL', key)
  call('HSET', key, '', head)
  call('PEXPIREAT', key, format('%d', expires + c.margin))
  leave_indexes(c, id, user, agent, created)
  call('ZADD', c.expiry, c.now, id)
  keep_ends(c)
  call('HINCRBY', c.stats, 'deleted', 1)
  return head
end

-- delete. Per session: expected revision or ''
local function delete(keys, args)
  local c, refused = enter_sessions(keys, args, 0, function(all, at)
    if all[at] and (all[at] == '' or #all[at] == 8) then
      return 1
    end
  end)
  if not c then
    return refused
  end
  local answer = {c.mode, c.now}
  for i = 2, #keys do
    answer[i + 1] = kill(c, keys[i], args[c.starts[i]])
  end
  return answer
end

-- put: the move to Redis, of many sessions at once: each index is written once for all of them. ARGV: margin (ms). Per
-- session: its bookkeeping as of an active session that is far from its end, names and values.
-- Answers per session 2: written; 3: Redis' own record is as new or newer; 0: the row has expired and nothing unexpired
-- is here; 1: the row has expired, the record that is here has not.
local function put_one(c, key, head, args, from, to, row)
  local version, created, expires, length = row[1], row[2], row[3], row[4]
  local packed = not (c.absent and not c.put[key]) and bookkeeping(key)
  if packed == CORRUPT then
    return CORRUPT
  end
  local known, ends = -1, 0
  if packed then
    local _, _, found, _, _, at = unpack_head(HEAD, packed)
    known, ends = found, at
  end
  if expires <= c.now then
    return ends > c.now and 1 or 0
  end
  if known >= version then
    return 3
  end
  local id = sub(key, c.skip)
  local user, agent = unpack_owners(head, HEAD_BYTES + 1, length)
  if packed then
    call('DEL', key)
    if call('ZREM', c.expiry, id) == 1 and not call('ZSCORE', c.bucket .. bucket_of(c, created), id) then
      -- What has ended was counted as filed up to now, and is about to be counted again
      c.filed = c.filed - 1
    end
  end
  local filed = filing(c, expires)
  if filed == NEAR then
    head = char(NEAR) .. sub(head, 2)
    c.moved[#c.moved + 1], c.moved[#c.moved + 2] = format('%d', expires), id
  end
  -- More than `unpack` takes at once are written in turn
  if to - from < MANY then
    call('HSET', key, '', head, unpack(args, from, to))
  else
    call('HSET', key, '', head)
    for i = from, to, MANY do
      call('HSET', key, unpack(args, i, min(to, i + MANY - 1)))
    end
  end
  call('PEXPIREAT', key, format('%d', expires + c.margin))
  c.put[key] = true
  index_later(c, id, user, agent, created, expires, filed)
  return 2
end

local function put(keys, args)
  local margin, at, starts, rows = is_count(args[1]), 2, {}, {}
  for i = 2, #keys do
    local head = args[at]
    if not head or #head < HEAD_BYTES then
      return redis.error_reply(BAD_ARGUMENTS)
    end
    local filed, state, version, created, updated, expires, _, _, count, _, length = unpack_head(HEAD, head)
    if filed ~= FAR or state ~= ACTIVE or length == 0 or #head < HEAD_BYTES + length
      or version > EXACT or created > EXACT or updated > EXACT or expires > EXACT then
      return redis.error_reply(BAD_ARGUMENTS)
    end
    starts[i], rows[i] = at, {version, created, expires, length}
    at = at + 1 + 2 * count
  end
  if not margin or at ~= #args + 1 then
    return redis.error_reply(BAD_ARGUMENTS)
  end
  local c, refused = enter(keys[1])
  if not c then
    return refused
  end
  starts[#keys + 1] = at
  c.margin, c.moved, c.put, c.whole, c.later = margin, {}, {}, {}, {sizes = {}, buckets = {}}
  look_ahead(c, margin)
  -- While sessions are moved in bulk, Redis has none of them: one look for all is enough
  c.absent = #keys > 1 and call('EXISTS', unpack(keys, 2)) == 0
  local answer, moved = {c.mode, c.now}, 0
  for i = 2, #keys do
    local first = starts[i]
    local said = put_one(c, keys[i], args[first], args, first + 1, starts[i + 1] - 1, rows[i])
    answer[i + 1] = said
    if said == 2 then
      moved = moved + 1
    end
  end
  fill_buckets(c)
  index_moved(c)
  if moved > 0 then
    call('HINCRBY', c.stats, 'moved', moved)
    count_filed(c)
  end
  return answer
end

-- Whether args[at] to args[at + 5] are a version, three times, a revision and a TTL
local function is_copy(args, at)
  for i = 0, 3 do
    if not is_count(args[at + i]) then
      return false
    end
  end
  return #args[at + 4] == 8 and is_count(args[at + 5])
end

local function unfile(c, id, user, agent, created)
  local left, ended = leave_indexes(c, id, user, agent, created), call('ZREM', c.expiry, id)
  if left == 1 or ended == 1 then
    c.filed = c.filed - 1
  end
end

-- mark: the move back. Per session: version, created, updated, expires, revision, own TTL, user, agent of the row.
-- Answers per session the bookkeeping of what is here then; 0 where the generation is not in mode mirror.
local function mark_one(c, key, args, at)
  local packed = bookkeeping(key)
  if packed == CORRUPT then
    return CORRUPT
  end
  local id = sub(key, c.skip)
  local row = tonumber(args[at])
  if packed then
    local _, state, version, created, updated, expires, revision, size, count, ttl, length, owners = unpack_head(HEAD, packed)
    if version >= row then
      if state ~= ACTIVE then
        return packed
      end
      local head = pack(HEAD, FAR, MOVED, version + 1, created, updated, expires, revision, size, count, ttl, length)
        .. sub(packed, owners)
      call('HSET', key, '', head)
      local user, agent = unpack_owners(packed, owners, length)
      unfile(c, id, user, agent, created)
      return head
    end
  end
  -- The move to Redis was never finished
  local user, agent, expires = args[at + 6], args[at + 7], tonumber(args[at + 3])
  local head = pack(HEAD, FAR, MARKER, row + 1, tonumber(args[at + 1]), tonumber(args[at + 2]), expires, args[at + 4],
    0, 0, tonumber(args[at + 5]), #user) .. user .. agent
  call('DEL', key)
  call('HSET', key, '', head)
  call('PEXPIREAT', key, expires + c.margin)
  unfile(c, id, user, agent, tonumber(args[at + 1]))
  return head
end

local function mark(keys, args)
  local c, refused = enter_sessions(keys, args, 0, function(all, at)
    if is_copy(all, at) and all[at + 6] and all[at + 6] ~= '' and all[at + 7] then
      return 8
    end
  end)
  if not c then
    return refused
  end
  local answer = {c.mode, c.now}
  for i = 2, #keys do
    answer[i + 1] = c.mode == 'mirror' and mark_one(c, keys[i], args, c.starts[i]) or 0
  end
  count_filed(c)
  return answer
end

-- delete_user. ARGV: margin, default TTL, maximum lifetime, the user, born at or before (ms, '' for now), at most.
-- Every entry that is looked at leaves the user's index, so that a repeat ends. Answers how many sessions this call
-- ended and whether more may be left.
local function delete_user(keys, args)
  local c, refused = enter_sessions(keys, {args[1], args[2], args[3]}, 0, function() return nil end)
  if not c then
    return refused
  end
  local most = is_count(args[6])
  local born = args[5] == '' and c.now or is_count(args[5])
  if not most or not born or not args[4] or args[4] == '' then
    return redis.error_reply(BAD_ARGUMENTS)
  end
  local user, killed = c.user .. args[4], 0
  local ids = call('ZRANGE', user, '-inf', born, 'BYSCORE', 'LIMIT', 0, most)
  for _, id in ipairs(ids) do
    if type(kill(c, c.session .. id, '')) == 'string' then
      killed = killed + 1
    end
    call('ZREM', user, id)
  end
  return {c.mode, c.now, killed, #ids == most and 1 or 0}
end

-- Whether one id comes after another, by bytes: Redis' own order within a score, and not Lua's, which follows the locale
local function after(one, other)
  local shorter = #one < #other and #one or #other
  for i = 1, shorter do
    local a, b = byte(one, i), byte(other, i)
    if a ~= b then
      return a > b
    end
  end
  return #one > #other
end

-- How many entries of the index are at or before (score, id); the entry itself may be gone
local function rank_after(key, score, id)
  local rank = call('ZRANK', key, id)
  if rank and tonumber(call('ZSCORE', key, id)) == score then
    return rank + 1, rank
  end
  local low = call('ZCOUNT', key, '-inf', string.format('(%.0f', score))
  local high = call('ZCOUNT', key, '-inf', string.format('%.0f', score))
  while low < high do
    local middle = floor((low + high) / 2)
    if after(call('ZRANGE', key, middle, middle)[1], id) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low, low
end

-- The bucket that follows another in a list, or the first one
local function next_bucket(c, start, newest)
  local from = start and '(' .. start
  if newest then
    return call('ZRANGE', c.created, from or '+inf', '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, 1)[1]
  end
  return call('ZRANGE', c.created, from or '-inf', '+inf', 'BYSCORE', 'LIMIT', 0, 1)[1]
end

-- list. ARGV: index ('created', 'user:U' or 'agent:A'), another index that must hold the session as well or '',
-- 'oldest' or 'newest', at most, and the score and id of the last entry seen or ''.
-- Answers the score and id to go on from ('' at the end), the stale entries as score and id and the sessions as id and
-- hash, alternating.
local function list(keys, args)
  local c, refused = enter(keys[1])
  if not c then
    return refused
  end
  local most, score = is_count(args[4]), tonumber(args[5])
  if #args ~= 6 or not most or most == 0 or (args[3] ~= 'oldest' and args[3] ~= 'newest') or (args[6] ~= '' and not score) then
    return redis.error_reply(BAD_ARGUMENTS)
  end
  local key, other, newest = c.indexes .. args[1], args[2] ~= '' and c.indexes .. args[2], args[3] == 'newest'
  local bucket = args[1] == 'created' and (args[6] ~= '' and bucket_of(c, score) or next_bucket(c, nil, newest))
  if bucket then
    key = c.bucket .. bucket
  end
  if other and call('ZCARD', other) < call('ZCARD', key) then
    key, other = other, key
  end
  local start = 0
  if args[6] ~= '' then
    local beyond, at = rank_after(key, score, args[6])
    start = newest and call('ZCARD', key) - at or beyond
  end
  local found, stale, examined, bytes, last_score, last_id = {}, {}, 0, 0, '', ''
  local chunk = most
  while true do
    local page
    if newest then
      page = call('ZRANGE', key, start, start + chunk - 1, 'REV', 'WITHSCORES')
    else
      page = call('ZRANGE', key, start, start + chunk - 1, 'WITHSCORES')
    end
    for i = 1, #page, 2 do
      local id = page[i]
      last_id, last_score, examined = id, page[i + 1], examined + 1
      if not other or call('ZSCORE', other, id) then
        local packed = bookkeeping(c.session .. id)
        local state, expires, size = 0, 0, 0
        if packed and packed ~= CORRUPT then
          local _, a, _, _, _, e, _, s = unpack_head(HEAD, packed)
          state, expires, size = a, e, s
        end
        if state ~= ACTIVE then
          stale[#stale + 1] = last_score
          stale[#stale + 1] = id
        elseif expires > c.now then
          found[#found + 1] = id
          found[#found + 1] = call('HGETALL', c.session .. id)
          bytes = bytes + size
        end
      end
      if #found >= 2 * most or examined >= EXAMINED or bytes >= PAGE_BYTES then
        return {c.mode, c.now, last_score, last_id, stale, found}
      end
    end
    start = start + chunk
    if #page < 2 * chunk then
      bucket = bucket and next_bucket(c, bucket, newest)
      if not bucket then
        return {c.mode, c.now, '', '', stale, found}
      end
      key, start = c.bucket .. bucket, 0
    end
  end
end

-- heal. ARGV: an index, then scores and ids that a list found stale: those that still are leave the index. Answers how
-- many.
local function heal(keys, args)
  local c, refused = enter(keys[1])
  if not c then
    return refused
  end
  local removed = 0
  for i = 3, #args, 2 do
    local id = args[i]
    local packed, created = bookkeeping(c.session .. id), tonumber(args[i - 1])
    local state = packed and packed ~= CORRUPT and select(2, unpack_head(HEAD, packed))
    if state ~= ACTIVE then
      if args[1] ~= 'created' then
        removed = removed + call('ZREM', c.indexes .. args[1], id)
      elseif not state then
        removed = removed + lose(c, bucket_of(c, created), id)
      else
        removed = removed + leave_bucket(c, bucket_of(c, created), id)
      end
    end
  end
  return {c.mode, c.now, removed}
end

-- How many ended sessions no index knows by their time, which is so only where cleanup has not run for long
local function ended_unseen(c)
  local ended, examined = 0, 0
  for _, start in ipairs(call('ZRANGE', c.due, '-inf', format('%d', c.now), 'BYSCORE', 'LIMIT', 0, EXAMINED / 10)) do
    for _, id in ipairs(call('ZRANGE', c.bucket .. start, 0, -1)) do
      local packed = bookkeeping(c.session .. id)
      if packed and packed ~= CORRUPT then
        local filed, state, _, _, _, expires = unpack_head(HEAD, packed)
        if filed == FAR and state == ACTIVE and expires <= c.now then
          ended = ended + 1
        end
      end
      examined = examined + 1
    end
    if examined >= EXAMINED then
      break
    end
  end
  return ended
end

-- statistics: how many sessions are active, and the counters
local function statistics(keys)
  local c, refused = enter(keys[1])
  if not c then
    return refused
  end
  local counters = call('HMGET', c.stats, 'created', 'expired', 'deleted', 'moved', 'filed')
  local ended = call('ZCOUNT', c.expiry, '-inf', format('%d', c.now)) + ended_unseen(c)
  local answer = {c.mode, c.now, tonumber(counters[5] or 0) - ended}
  for i = 1, 4 do
    answer[3 + i] = tonumber(counters[i] or 0)
  end
  return answer
end

-- Bring the sessions of due buckets into the expiry index where their end is near. Whether buckets are left over.
local function approach(c, margin)
  local ahead, examined = look_ahead(c, margin), 0
  while examined < EXAMINED do
    local first = call('ZRANGE', c.due, 0, 0, 'WITHSCORES')
    local start = first[1]
    if not start or tonumber(first[2]) >= c.now + ahead then
      return false
    end
    local earliest
    for _, id in ipairs(call('ZRANGE', c.bucket .. start, 0, -1)) do
      local key = c.session .. id
      local packed = bookkeeping(key)
      examined = examined + 1
      if packed and packed ~= CORRUPT then
        local filed, state, _, _, _, expires = unpack_head(HEAD, packed)
        if state ~= ACTIVE then
          leave_bucket(c, start, id)
        elseif filed == FAR and filing(c, expires) == NEAR then
          call('HSET', key, '', char(NEAR) .. sub(packed, 2))
          call('ZADD', c.expiry, format('%d', expires), id)
          keep_ends(c)
        elseif filed == FAR and expires < (earliest or expires + 1) then
          earliest = expires
        end
      else
        lose(c, start, id)
      end
    end
    if earliest then
      call('ZADD', c.due, format('%d', earliest), start)
    else
      call('ZREM', c.due, start)
    end
  end
  return true
end

-- clean. ARGV: margin (ms), at most. Looks ahead, and answers 1 where it has not looked at all that is due, else 0. Then
-- takes ended sessions out of every index and into the set of ends in delivery; answers them and,
-- where there is room, ends that were given out before and not confirmed, longest ago first. An end is a packed string:
-- time (ms), cause, length of the user; the user; length of the agent; the agent and the id.
local function clean(keys, args)
  local c, refused = enter(keys[1])
  local margin, most = is_count(args[1]), is_count(args[2])
  if not c or not margin or not most or most == 0 then
    return refused or redis.error_reply(BAD_ARGUMENTS)
  end
  local answer, expired, now = {c.mode, c.now, approach(c, margin) and 1 or 0}, 0, c.now
  local again = call('ZRANGE', c.ended, 0, most - 1)
  local page = call('ZRANGE', c.expiry, '-inf', now, 'BYSCORE', 'LIMIT', 0, most, 'WITHSCORES')
  for i = 1, #page, 2 do
    local id, at = page[i], tonumber(page[i + 1])
    local key, user, agent, cause, ended = c.session .. id, '', '', 0, true
    local packed = bookkeeping(key)
    if packed and packed ~= CORRUPT then
      local _, state, _, created, updated, expires, _, _, _, _, length, owners = unpack_head(HEAD, packed)
      user, agent = unpack_owners(packed, owners, length)
      if state == ACTIVE and expires > now then
        call('ZADD', c.expiry, expires, id)
        ended = false
      elseif state == ACTIVE then
        at = expires
        call('DEL', key)
      elseif state == DELETED then
        at, cause = updated, 1
      end
      if ended then
        leave_indexes(c, id, user, agent, created)
      end
    else
      met_before(c, id)
    end
    if ended then
      c.filed = c.filed - 1
      expired = expired + 1 - cause
      call('ZREM', c.expiry, id)
      local member = pack('<I8BI4', at, cause, #user) .. user .. pack('<I4', #agent) .. agent .. id
      call('ZADD', c.ended, now, member)
      answer[#answer + 1] = member
    end
  end
  for _, member in ipairs(again) do
    if #answer >= most + 3 then
      break
    end
    call('ZADD', c.ended, now, member)
    answer[#answer + 1] = member
  end
  if expired > 0 then
    call('HINCRBY', c.stats, 'expired', expired)
  end
  count_filed(c)
  if #answer > 3 then
    keep(c, c.ended, now + OUTBOX_DAYS * DAY)
  end
  return answer
end

-- sweep. ARGV: margin (ms), at most. While the legacy store is complete it tells of ends: here ended sessions only leave the indexes,
-- and their records go by their own TTL. Answers how many entries were looked at, `at most` where more are due.
local function sweep(keys, args)
  local c, refused = enter(keys[1])
  local margin, most = is_count(args[1]), is_count(args[2])
  if not c or not margin or not most or most == 0 then
    return refused or redis.error_reply(BAD_ARGUMENTS)
  end
  if c.mode == 'final' then
    return redis.error_reply('MODE the generation is in mode final')
  end
  local more = approach(c, margin)
  local ids = call('ZRANGE', c.expiry, '-inf', c.now, 'BYSCORE', 'LIMIT', 0, most)
  for _, id in ipairs(ids) do
    local packed = bookkeeping(c.session .. id)
    local ended = true
    if packed and packed ~= CORRUPT then
      local _, state, _, created, _, expires, _, _, _, _, length, owners = unpack_head(HEAD, packed)
      ended = state ~= ACTIVE or expires <= c.now
      if ended then
        local user, agent = unpack_owners(packed, owners, length)
        leave_indexes(c, id, user, agent, created)
      else
        call('ZADD', c.expiry, expires, id)
      end
    else
      met_before(c, id)
    end
    if ended then
      c.filed = c.filed - 1
      call('ZREM', c.expiry, id)
    end
  end
  count_filed(c)
  return {c.mode, c.now, more and most or #ids}
end

-- told. ARGV: ends that the agent manager has heard of. Answers how many were still in delivery.
local function told(keys, args)
  local c, refused = enter(keys[1])
  if not c then
    return refused
  end
  local confirmed = 0
  for _, member in ipairs(args) do
    confirmed = confirmed + call('ZREM', c.ended, member)
  end
  return {c.mode, c.now, confirmed}
end

-- lead. KEYS[2]: control:<g>:{p}:lead:<task>. ARGV: holder, ms. Answers 1 while the holder leads the task.
local function lead(keys, args)
  local c, refused = enter(keys[1])
  local ms = is_count(args[2])
  if not c or not ms or ms == 0 or not keys[2] then
    return refused or redis.error_reply(BAD_ARGUMENTS)
  end
  local holder = call('GET', keys[2])
  if holder and holder ~= args[1] then
    return {c.mode, c.now, 0}
  end
  call('SET', keys[2], args[1], 'PX', ms)
  return {c.mode, c.now, 1}
end

-- open. KEYS[1]: the generation key of one partition. ARGV: the mode, and how many partitions this server was asked to
-- open before it. Written once, and never over another mode.
-- mirror: a bump's third step; answers the pin. final: for a deployment without a legacy store, never over other data:
-- the keys of the partitions before are all that may be there; answers 1 when it was opened by this call, 0 when it was
-- open.
local function open(keys, args)
  local wanted, before = args[1], is_count(args[2])
  if #keys ~= 1 or not find(keys[1], '^generation:') or not before or (wanted ~= 'mirror' and wanted ~= 'final') then
    return redis.error_reply(BAD_ARGUMENTS)
  end
  local replication = call('INFO', 'replication')
  if not find(replication, 'role:master', 1, true) then
    return redis.error_reply('WRONGSERVER not a primary')
  end
  local mode = call('GET', keys[1])
  if mode and mode ~= wanted then
    return redis.error_reply('MODE the generation is in mode ' .. mode)
  end
  if not mode then
    if wanted == 'final' and call('DBSIZE') ~= before then
      return redis.error_reply('NOTEMPTY this Redis holds other data')
    end
    call('SET', keys[1], wanted, 'NX')
  end
  if wanted == 'mirror' then
    return string.match(replication, 'master_replid:(%x+)')
  end
  return mode and 0 or 1
end

-- mode. ARGV: the mode to come from, and the one to go to: hold stands between mirror and final in either direction.
-- Under the pin in every mode, and never over a key that is lost. Answers the mode that it found: either of the two.
local WAYS = {mirror = 'hold', final = 'hold', hold = true}

local function change_mode(keys, args)
  local from, to = args[1], args[2]
  local known = WAYS[from or ''] and WAYS[to or ''] and (WAYS[from] == to or WAYS[to] == from)
  if #keys ~= 1 or not known then
    return redis.error_reply(BAD_ARGUMENTS)
  end
  local replication = call('INFO', 'replication')
  if not find(replication, 'role:master', 1, true) or #pin ~= 40
    or not find(replication, 'master_replid:' .. pin, 1, true) then
    return redis.error_reply('WRONGSERVER not the pinned server')
  end
  local mode = call('GET', keys[1])
  if not mode then
    return redis.error_reply('LOST no generation key')
  end
  if mode ~= from and mode ~= to then
    return redis.error_reply('MODE the generation is in mode ' .. mode)
  end
  if mode ~= to then
    call('SET', keys[1], to, 'XX')
  end
  return mode
end

-- keep. KEYS[2]: control:<g>:{p}:<name>. ARGV: what is to be kept under it, as text
local function keep_text(keys, args)
  local c, refused = enter(keys[1])
  if not c or #keys ~= 2 or #args ~= 1 then
    return refused or redis.error_reply(BAD_ARGUMENTS)
  end
  call('SET', keys[2], args[1])
  return {c.mode, c.now}
end

-- guard: head and tail of a tick of reads
local function answer_guard(keys)
  local c, refused = enter(keys[1])
  if not c then
    return refused
  end
  return {c.mode, c.now}
end

local function register(name, callback, modes, ...)
  local function run(keys, args)
    if not call then
      call, pcall, pack, unpack_head = redis.call, redis.pcall, struct.pack, struct.unpack
      floor, ceil, min, find, sub, byte, char = math.floor, math.ceil, math.min, string.find, string.sub, string.byte, string.char
      format = string.format
    end
    pin = args[#args] or ''
    args[#args] = nil
    served, caller_final = modes, byte(pin) == 42
    if caller_final then
      pin = sub(pin, 2)
    end
    return callback(keys, args)
  end
  redis.register_function{function_name = 'session_v3_' .. name, callback = run, flags = {...}}
end

register('update', update, ANY)
register('replace', replace, ANY)
register('touch', touch, ANY)
register('put', put, ANY)
register('create', create, FINAL)
-- What only frees memory works at maxmemory too, and so does what stands at the beginning of freeing any
register('open', open, ANY, 'allow-oom')
register('delete', delete, ANY, 'allow-oom')
register('mark', mark, ANY, 'allow-oom')
register('sweep', sweep, ANY, 'allow-oom')
register('delete_user', delete_user, FINAL, 'allow-oom')
register('heal', heal, COMPLETE, 'allow-oom')
register('clean', clean, COMPLETE, 'allow-oom')
register('told', told, COMPLETE, 'allow-oom')
register('lead', lead, COMPLETE, 'allow-oom')
register('keep', keep_text, COMPLETE, 'allow-oom')
register('mode', change_mode, ANY, 'allow-oom')
register('guard', answer_guard, ANY, 'no-writes')
register('list', list, COMPLETE, 'no-writes')
register('statistics', statistics, COMPLETE, 'no-writes')
