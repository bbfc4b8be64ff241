-- store_admin.lua - what operators rule: quotas, pauses, dead letters; audit and repair.

-- Limits of a tenant that `quota` sets, in the order of its arguments; 0: none.
local LIMITS = { 'queued_max', 'running_max', 'bytes_max', 'rate', 'burst', 'weight' }

-- quota: tenant limits... -> ok, queued. A limit of -1 stays as it is.
-- weight: its share of the devices against others', at least 1; rate: jobs a second.
F.quota = function(tenant, ...)
  local limits = { ... }
  for i = 1, #LIMITS do
    if limits[i] ~= '-1' then call('HSET', tenant_key(tenant), LIMITS[i], limits[i]) end
  end
  call('HDEL', tenant_key(tenant), 'tokens', 'filled')
  call('SADD', T .. 'tenants', tenant)
  unpark(tenant)
  return { 'ok', 'queued' }
end

-- tenants: -> rows: tenant waiting held bytes paused, then LIMITS. Those that have limits.
F.tenants = function()
  local out, names = {}, call('SMEMBERS', T .. 'tenants')
  table.sort(names)
  for i = 1, #names do
    local v = call('HMGET', tenant_key(names[i]), 'waiting', 'held', 'bytes', 'paused',
                   unpack(LIMITS))
    local row = { names[i] }
    for j = 1, 4 + #LIMITS do row[j + 1] = v[j] or (LIMITS[j - 4] == 'weight' and '1' or '0') end
    out[i] = row
  end
  return out
end

-- pause: kind ("all", "model", "tenant") name mode ("pause", "drain", "resume") -> verdict, queued
-- pause: what runs goes on, nothing more starts. drain (all only): takes no more jobs, and runs
-- what is there.
F.pause = function(kind, name, mode)
  if kind == 'tenant' then
    if mode == 'drain' then return { 'refused', 'queued' } end
    call('HSET', tenant_key(name), 'paused', mode == 'pause' and '1' or '0')
    call('SADD', T .. 'tenants', name)
    unpark(name)
    return { 'ok', 'queued' }
  end
  local field = kind == 'all' and '' or name
  if kind == 'model' and mode == 'drain' then return { 'refused', 'queued' } end
  if mode == 'resume' then call('HDEL', T .. 'paused', field)
  else call('HSET', T .. 'paused', field, mode) end
  return { 'ok', 'queued' }
end

-- front: id -> verdict, state. Before all others of its tenant and lane.
F.front = function(id)
  local job = load(id)
  if job.state == 'unknown' then return { 'unknown', job.state } end
  if job.state ~= 'queued' then return { 'conflict', job.state } end
  local key = ready_key(job.lane, job.tenant)
  local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  call('ZADD', key, text(tonumber(first[2]) - 1), id)
  return { 'ok', job.state }
end

local function revive(id, job)
  call('ZREM', T .. 'dead', id)
  call('HDEL', job_key(id), 'ended', 'unstarted', 'suspects', 'quarantined', 'timeouts', 'deadline')
  call('HSET', job_key(id), 'tries', '0')
  if job.batch then
    call('HINCRBY', batch_key(job.tenant, job.batch), 'dead', -1)
    call('HINCRBY', batch_key(job.tenant, job.batch), 'left', 1)
  end
  enqueue(id, job, now_ms())
  tell(id, 'queued', job.tenant, job.batch)
end

-- redrive: id -> verdict, state. A dead job gets all its tries again.
F.redrive = function(id)
  local job = load(id)
  if job.state == 'unknown' then return { 'unknown', job.state } end
  if job.state ~= 'dead' then return { 'conflict', job.state } end
  if call('EXISTS', spec_key(id)) == 0 then return { 'refused', job.state } end
  revive(id, job)
  return { 'ok', 'queued' }
end

-- redrive_all: limit cursor -> rows: cursor for the next page ("" on the last), number revived.
-- Oldest first; quarantined jobs are left where they are.
F.redrive_all = function(limit, cursor)
  local revived, next = 0, ''
  local ids = call('ZRANGEBYSCORE', T .. 'dead', cursor == '' and '-inf' or cursor, '+inf',
                   'WITHSCORES', 'LIMIT', 0, limit)
  for i = 1, #ids, 2 do
    local job = load(ids[i])
    if job.state == 'dead' and not call('HGET', job_key(ids[i]), 'quarantined') and
       call('EXISTS', spec_key(ids[i])) == 1 then
      revive(ids[i], job)
      revived = revived + 1
    end
    next = ids[i + 1]
  end
  if #ids < 2 * tonumber(limit) or (revived == 0 and next == cursor) then next = '' end
  return { { next, text(revived) } }
end

-- --- audit --------------------------------------------------------------------------------------

-- The sorted set that a job of this state must be in; it must be in no other.
local function home_of(job)
  if job.state == 'queued' then return ready_key(job.lane, job.tenant) end
  if is_leased(job) then return T .. 'leases' end
  if job.state == 'delayed' or job.state == 'dead' then return T .. job.state end
  if is_final(job.state) then return T .. 'ended' end
  return nil -- blocked: in the sets of those it waits for
end

-- Every job there is, from the keys themselves when the index can't be trusted.
local function all_jobs(from_keys)
  if not from_keys then return call('ZRANGE', T .. 'index', 0, -1) end
  local ids, seen, cursor, prefix = {}, {}, '0', T .. 'job:'
  repeat
    local page = call('SCAN', cursor, 'MATCH', prefix .. '*', 'COUNT', 1000)
    cursor = page[1]
    for i = 1, #page[2] do -- some come twice
      local id = string.sub(page[2][i], #prefix + 1)
      if not seen[id] then ids[#ids + 1] = id end
      seen[id] = true
    end
  until cursor == '0'
  return ids
end

-- What follows from the jobs: states, gauges of tenants, batches, lines.
local function add_to(sums, name, by) sums[name] = (sums[name] or 0) + by end
local function sum_up(ids)
  local sums = { counts = {}, gauges = {}, batches = {}, lines = {}, jobs = {} }
  for i = 1, #ids do
    local job = load(ids[i])
    sums.jobs[ids[i]] = job
    add_to(sums.counts, job.state, 1)
    for _, gauge in ipairs({ 'waiting', 'held' }) do
      add_to(sums.gauges, job.tenant .. ' ' .. gauge, GAUGES[job.state] == gauge and 1 or 0)
    end
    add_to(sums.gauges, job.tenant .. ' bytes', call('STRLEN', spec_key(ids[i])))
    if job.batch then
      local key = batch_key(job.tenant, job.batch)
      add_to(sums.batches, key .. ' dead', job.state == 'dead' and 1 or 0)
      add_to(sums.batches, key .. ' left', is_final(job.state) and 0 or 1)
    end
    if job.model then sums.lines[ready_key(job.lane, job.tenant)] = { job.lane, job.tenant } end
  end
  return sums
end

local function audit_job(id, job, bad)
  local function want(what, has, needs)
    if has ~= needs then
      bad[#bad + 1] = id .. ' is ' .. job.state .. (needs and ' but not ' or ' but ') .. what
    end
  end
  if job.state == 'unknown' then bad[#bad + 1] = id .. ' has no hash' return end
  local home = home_of(job)
  want('in the index', call('ZSCORE', T .. 'index', id) and true or false, true)
  if home then want('in its index', call('ZSCORE', home, id) and true or false, true) end
  for _, key in ipairs({ 'leases', 'delayed', 'dead', 'ended' }) do
    if T .. key ~= home then
      want('in ' .. key, call('ZSCORE', T .. key, id) and true or false, false)
    end
  end
  want('with a nonce', (job.nonce or job.state == 'done') and true or false,
       is_leased(job) or job.state == 'done')
  if job.state ~= 'dead' then -- the spec of a dead job may have been what it died of
    want('with a spec', call('EXISTS', spec_key(id)) == 1,
         job.state ~= 'done' and job.state ~= 'cancelled')
  end
  local has_deadline = call('HGET', job_key(id), 'deadline') and not is_final(job.state)
  want('in deadlines', call('ZSCORE', T .. 'deadlines', id) and true or false,
       has_deadline and true or false)
  if job.state == 'blocked' then
    want('waiting', tonumber(call('HGET', job_key(id), 'pending') or '0') > 0, true)
  end
end

-- Numbers that Redis holds against numbers that follow from the jobs. keys: name -> key, field
local function audit_sums(sums, keys, bad)
  for name, need in pairs(sums) do
    local key, field = keys(name)
    local has = tonumber(call('HGET', key, field) or '0')
    if has ~= need then
      bad[#bad + 1] = name .. ' is ' .. text(has) .. ', not ' .. text(need)
    end
  end
end

local function count_at(state) return T .. 'counts', state end
local function gauge_at(name)
  local tenant, gauge = string.match(name, '^(.*) (%a+)$')
  return tenant_key(tenant), gauge
end
local function batch_at(name) return string.match(name, '^(.*) (%a+)$') end

-- Lines whose tenant no claim would find, and members that no job accounts for.
local function audit_lines(sums, ids, bad)
  local members, blocked = 0, sums.counts.blocked or 0
  for key, line in pairs(sums.lines) do
    local n = call('ZCARD', key)
    members = members + n
    local is_seen = call('ZSCORE', T .. 'active:' .. line[1], line[2]) or
                    call('SISMEMBER', T .. 'parked:' .. line[2], line[1]) == 1
    if n > 0 and not is_seen then bad[#bad + 1] = key .. ' is seen by no claim' end
  end
  for _, key in ipairs({ 'leases', 'delayed', 'dead', 'ended' }) do
    members = members + call('ZCARD', T .. key)
  end
  if members + blocked ~= #ids then
    bad[#bad + 1] = #ids .. ' jobs, but ' .. members .. ' entries in the indexes of states'
  end
end

local function look(ids)
  local bad, sums = {}, sum_up(ids)
  for i = 1, #ids do audit_job(ids[i], sums.jobs[ids[i]], bad) end
  for _, state in ipairs({ 'queued', 'delayed', 'leased', 'running', 'done', 'dead', 'cancelled',
                           'blocked' }) do
    add_to(sums.counts, state, 0)
  end
  sums.counts.unknown = nil
  audit_sums(sums.counts, count_at, bad)
  audit_sums(sums.gauges, gauge_at, bad)
  audit_sums(sums.batches, batch_at, bad)
  audit_lines(sums, ids, bad)
  return bad, sums
end

-- Wait again for the parents that have not ended; false: there are none.
local function rejoin(id)
  local pending = 0
  for parent in string.gmatch(call('HGET', job_key(id), 'after') or '', '[^,]+') do
    local state = call('HGET', job_key(parent), 'state')
    if state and not is_final(state) then
      call('SADD', T .. 'children:' .. parent, id)
      pending = pending + 1
    end
  end
  call('HSET', job_key(id), 'pending', pending)
  return pending > 0
end

-- Put a job where its hash says that it is. old: scores of the sets as they were.
local function rebuild(id, job, old, ms)
  local home, key = home_of(job), job_key(id)
  local v = call('HMGET', key, 'deadline', 'ended')
  local usual = text(ms) -- due now: a sweep looks at it
  if job.state == 'queued' then usual = text(job.submitted - job.priority * PRIORITY_MS) end
  if is_final(job.state) then usual = v[2] or usual end
  if is_leased(job) and not job.nonce then -- nobody can hold it: back into the line
    job.state, home = 'queued', ready_key(job.lane, job.tenant)
    call('HSET', key, 'state', 'queued')
  end
  if job.state == 'blocked' and not rejoin(id) then
    job.state, home = 'queued', ready_key(job.lane, job.tenant)
    call('HSET', key, 'state', 'queued')
  end
  if job.needs then call('ZADD', T .. 'big:' .. job.model, job.needs, job.lane) end
  if home then call('ZADD', home, old[id] or usual, id) end
  if not is_final(job.state) then
    if v[1] then call('ZADD', T .. 'deadlines', v[1], id) end
  end
  if job.state == 'done' or job.state == 'cancelled' then call('UNLINK', spec_key(id)) end
end

local function keep_scores(key, old)
  local members = call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #members, 2 do old[members[i]] = members[i + 1] end
  call('DEL', key)
end

-- Derive every index and number anew from the jobs' hashes.
local function repair(ms)
  local ids, old, seen = all_jobs(true), {}, {}
  local sums = sum_up(ids)
  for key in pairs(sums.lines) do keep_scores(key, old) end
  for _, key in ipairs({ 'leases', 'delayed', 'dead', 'ended' }) do keep_scores(T .. key, old) end
  call('DEL', T .. 'deadlines', T .. 'counts')
  table.sort(ids, function(a, b) return sums.jobs[a].submitted < sums.jobs[b].submitted end)
  for i = 1, #ids do
    local id = ids[i]
    rebuild(id, sums.jobs[id], old, ms)
    if not call('ZSCORE', T .. 'index', id) then
      call('ZADD', T .. 'index', call('INCR', T .. 'sequence'), id)
    end
    seen[id] = true
  end
  for _, id in ipairs(call('ZRANGE', T .. 'index', 0, -1)) do
    if not seen[id] then call('ZREM', T .. 'index', id) end
  end
  sums = sum_up(ids)
  for state, n in pairs(sums.counts) do call('HSET', T .. 'counts', state, n) end
  for name, n in pairs(sums.gauges) do
    local key, field = gauge_at(name)
    call('HSET', key, field, n)
  end
  for name, n in pairs(sums.batches) do
    local key, field = batch_at(name)
    call('HSET', key, field, n)
  end
  for key, line in pairs(sums.lines) do
    call('SADD', T .. 'lanes', line[1])
    leave(line[1], line[2])
    call('SREM', T .. 'parked:' .. line[2], line[1])
    if call('EXISTS', key) == 1 then enter(line[1], line[2]) end
  end
end

-- audit: repair ("1": mend what disagrees) -> rows: what disagreed with the jobs' hashes
-- Looks at everything in one go: 10 us a job.
F.audit = function(is_repair)
  local bad = look(all_jobs(is_repair == '1'))
  if is_repair == '1' and #bad > 0 then repair(now_ms()) end
  for i = 1, #bad do bad[i] = { bad[i] } end
  return bad
end
