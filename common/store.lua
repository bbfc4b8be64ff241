-- store.lua - every transition of a job, each a function that happens wholly or not at all.
--
-- KEYS[1] is the shard's hash tag, "{00}"; every key below starts with it, so that a shard is one
-- slot of a Redis Cluster. ARGV[1] is the function's name, the rest are its arguments.
-- The job's hash is the truth. Every index follows from it, and `audit` checks that it does.
--
--   job:<id>       hash    the job, see FIELDS
--   spec:<id>      string  the job's parameters as bytes; gone when the job is done or cancelled
--   ready:<model>  zset    queued jobs -> time they became ready, moved forward by priority
--   leases         zset    leased and running jobs -> deadline of the lease
--   delayed        zset    delayed jobs -> time of the next try
--   dead           zset    dead jobs -> time of death
--   ended          zset    done and cancelled jobs -> time of the end
--   index          zset    all jobs -> sequence number of their submission
--   sequence       string  the last sequence number
--   counts         hash    state -> number of jobs
--   swept          string  time of the last sweep
--
-- States and transitions: common/job.h. Times are milliseconds of Redis' clock.
local call = redis.call
local T = KEYS[1]
local F = {}

-- One step of priority is worth ten minutes of waiting: the low are late, but never starve.
local PRIORITY_MS = 600000

-- Leases that may be lost before their start, for each try that the job has. A job whose input
-- kills whoever looks at it must not go round for ever; an unlucky one must live.
local UNSTARTED_PER_TRY = 5

-- Jobs that one call of `list` looks at, so that a rare label can't hold up everybody else.
local LIST_SCAN_MAX = 1000

-- What `status` and `list` answer, in this order; common/store_reply.c reads it so.
local FIELDS = {
  'state', 'attempt', 'tries', 'attempts', 'priority', 'submitted', 'started', 'ended', 'progress',
  'model', 'labels', 'worker', 'stage', 'code', 'sentence', 'video', 'poster', 'manifest',
}

local function job_key(id) return T .. 'job:' .. id end
local function spec_key(id) return T .. 'spec:' .. id end
local function ready_key(model) return T .. 'ready:' .. model end

local function now_ms()
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Whole numbers as text: Lua would write 1.7e+12.
local function text(n) return string.format('%.0f', n) end

local function set_state(id, from, to)
  call('HSET', job_key(id), 'state', to)
  if from then call('HINCRBY', T .. 'counts', from, -1) end
  call('HINCRBY', T .. 'counts', to, 1)
end

-- Fields of a present lease; gone when it ends.
local function drop_lease(id)
  call('ZREM', T .. 'leases', id)
  call('HDEL', job_key(id), 'nonce', 'stage', 'progress')
end

local function enqueue(id, from, model, priority, ready_ms)
  set_state(id, from, 'queued')
  call('ZADD', ready_key(model), text(ready_ms - priority * PRIORITY_MS), id)
end

-- Enter done, dead or cancelled.
local function finish(id, from, to)
  local ms = text(now_ms())
  set_state(id, from, to)
  call('HSET', job_key(id), 'ended', ms)
  if to == 'dead' then
    call('ZADD', T .. 'dead', ms, id)
  else
    call('UNLINK', spec_key(id))
    call('ZADD', T .. 'ended', ms, id)
  end
end

-- The part of a job that transitions look at; state 'unknown' when there is no such job.
local function load(id)
  local v = call('HMGET', job_key(id), 'state', 'attempt', 'nonce', 'tries', 'attempts', 'model',
                 'priority', 'started', 'timeout', 'submitted')
  return {
    state = v[1] or 'unknown', attempt = v[2], nonce = v[3], tries = tonumber(v[4] or '0'),
    attempts = tonumber(v[5] or '0'), model = v[6], priority = tonumber(v[7] or '0'),
    started = tonumber(v[8] or '0'), timeout = tonumber(v[9] or '0'),
    submitted = tonumber(v[10] or '0'),
  }
end

local function is_leased(job) return job.state == 'leased' or job.state == 'running' end

-- The job, if this lease holds it; else nil and the verdict for somebody whose lease is over. A
-- lease is the attempt and the nonce, compared for equality: after a failover two workers can hold
-- the same attempt.
local function held(id, attempt, nonce)
  local job = load(id)
  local is_same = job.attempt == attempt and job.nonce == nonce
  if is_leased(job) and is_same then return job end
  if job.state == 'done' and is_same then return nil, { 'duplicate', job.state } end
  return nil, { job.state == 'cancelled' and 'cancelled' or 'lost', job.state }
end

-- An attempt has failed: another try after a wait, or the end.
-- retry: base_ms, cap_ms, random in [0,1)
local function end_attempt(id, job, why, is_fatal, retry)
  if job.state == 'leased' then job.tries = job.tries + 1 end
  drop_lease(id)
  call('HSET', job_key(id), 'tries', job.tries, 'code', why.code, 'sentence', why.sentence)
  if is_fatal or job.tries >= job.attempts then
    finish(id, job.state, 'dead')
    return 'dead'
  end
  local wait = math.min(retry.base_ms * 2 ^ (job.tries - 1), retry.cap_ms)
  wait = math.floor(wait / 2 + wait / 2 * retry.random)
  set_state(id, job.state, 'delayed')
  call('ZADD', T .. 'delayed', text(now_ms() + wait), id)
  return 'delayed'
end

local function retry_of(base_ms, cap_ms, random)
  return { base_ms = tonumber(base_ms), cap_ms = tonumber(cap_ms), random = tonumber(random) }
end

-- submit: id model priority attempts timeout_ms labels queued_max spec -> verdict, state
F.submit = function(id, model, priority, attempts, timeout_ms, labels, queued_max, spec)
  local key, digest = job_key(id), redis.sha1hex(spec)
  local old = call('HMGET', key, 'state', 'digest')
  if old[1] then return { old[2] == digest and 'duplicate' or 'conflict', old[1] } end
  local counts = call('HMGET', T .. 'counts', 'queued', 'delayed')
  local waiting = tonumber(counts[1] or '0') + tonumber(counts[2] or '0')
  if waiting >= tonumber(queued_max) then return { 'full', text(waiting) } end
  local ms = now_ms()
  call('HSET', key, 'model', model, 'priority', priority, 'attempts', attempts, 'timeout',
       timeout_ms, 'labels', labels, 'digest', digest, 'submitted', text(ms))
  call('SET', spec_key(id), spec)
  call('ZADD', T .. 'index', call('INCR', T .. 'sequence'), id)
  enqueue(id, nil, model, tonumber(priority), ms)
  return { 'ok', 'queued' }
end

-- claim: worker nonce lease_ms model... -> nothing, or id, attempt, nonce, spec
F.claim = function(worker, nonce, lease_ms, ...)
  local models = { ... }
  for i = 1, #models do
    local top = call('ZPOPMIN', ready_key(models[i]))
    while top[1] do
      local id = top[1]
      local spec = call('GET', spec_key(id))
      if call('HGET', job_key(id), 'state') == 'queued' then
        if spec then
          local attempt = call('HINCRBY', job_key(id), 'attempt', 1)
          set_state(id, 'queued', 'leased')
          call('HDEL', job_key(id), 'started')
          call('HSET', job_key(id), 'nonce', nonce, 'worker', worker)
          call('ZADD', T .. 'leases', text(now_ms() + tonumber(lease_ms)), id)
          return { id, attempt, nonce, spec }
        end
        call('HSET', job_key(id), 'code', 'corrupt', 'sentence',
             'its parameters are gone from Redis')
        finish(id, 'queued', 'dead')
      end
      top = call('ZPOPMIN', ready_key(models[i]))
    end
  end
  return {}
end

-- renew: lease_ms id attempt nonce is_started stage progress -> verdict, state
F.renew = function(lease_ms, id, attempt, nonce, is_started, stage, progress)
  local job, verdict = held(id, attempt, nonce)
  if not job then return verdict end
  local ms = now_ms()
  local deadline = ms + tonumber(lease_ms)
  if is_started == '1' and job.state == 'leased' then
    set_state(id, 'leased', 'running')
    call('HSET', job_key(id), 'started', text(ms), 'tries', job.tries + 1)
    job.state, job.started = 'running', ms
  end
  call('HSET', job_key(id), 'stage', stage, 'progress', progress)
  if job.state == 'running' then deadline = math.min(deadline, job.started + job.timeout) end
  if deadline <= ms then return { 'timeout', job.state } end
  call('ZADD', T .. 'leases', 'XX', text(deadline), id)
  return { 'ok', job.state }
end

-- complete: id attempt nonce video poster manifest -> verdict, state
F.complete = function(id, attempt, nonce, video, poster, manifest)
  local job, verdict = held(id, attempt, nonce)
  if not job then return verdict end
  if job.state == 'leased' then
    call('HSET', job_key(id), 'tries', job.tries + 1, 'started', text(now_ms()))
  end
  drop_lease(id)
  call('HSET', job_key(id), 'nonce', nonce, 'video', video, 'poster', poster, 'manifest', manifest,
       'progress', '1')
  call('HDEL', job_key(id), 'code', 'sentence')
  finish(id, job.state, 'done')
  return { 'ok', 'done' }
end

-- fail: id attempt nonce code sentence is_fatal base_ms cap_ms random -> verdict, state
F.fail = function(id, attempt, nonce, code, sentence, is_fatal, base_ms, cap_ms, random)
  local job, verdict = held(id, attempt, nonce)
  if not job then return verdict end
  local why = { code = code, sentence = sentence }
  return { 'ok', end_attempt(id, job, why, is_fatal == '1', retry_of(base_ms, cap_ms, random)) }
end

-- Back to its old place in the line; what was started does not count.
local function put_back(id, job)
  drop_lease(id)
  if job.state == 'running' then call('HSET', job_key(id), 'tries', job.tries - 1) end
  call('HDEL', job_key(id), 'started')
  enqueue(id, job.state, job.model, job.priority, job.submitted)
end

-- release: id attempt nonce -> verdict, state
F.release = function(id, attempt, nonce)
  local job, verdict = held(id, attempt, nonce)
  if not job then return verdict end
  put_back(id, job)
  return { 'ok', 'queued' }
end

-- cancel: id -> verdict, state, and for a leased job worker, id, attempt, nonce
F.cancel = function(id)
  local job = load(id)
  local lease = {}
  if job.state == 'unknown' then return { 'unknown', job.state } end
  if job.state == 'cancelled' then return { 'duplicate', job.state } end
  if job.state == 'done' or job.state == 'dead' then return { 'conflict', job.state } end
  if job.state == 'queued' then call('ZREM', ready_key(job.model), id) end
  if job.state == 'delayed' then call('ZREM', T .. 'delayed', id) end
  if is_leased(job) then
    lease = { call('HGET', job_key(id), 'worker') or '', id, job.attempt, job.nonce }
    drop_lease(id)
  end
  finish(id, job.state, 'cancelled')
  return { 'ok', 'cancelled', unpack(lease) }
end

-- A lease ran out.
local function expire(id, job, retry)
  local worker = call('HGET', job_key(id), 'worker') or ''
  if job.state == 'leased' then
    local unstarted = call('HINCRBY', job_key(id), 'unstarted', 1)
    if unstarted <= UNSTARTED_PER_TRY * job.attempts then put_back(id, job) return end
    end_attempt(id, job, { code = 'unavailable', sentence = unstarted ..
      ' workers were lost before they could start this job, the last was ' .. worker }, true, retry)
  elseif now_ms() >= job.started + job.timeout then
    end_attempt(id, job, { code = 'timeout', sentence = 'attempt ' .. job.attempt ..
      ' ran longer than its timeout of ' .. text(job.timeout / 1000) .. ' s' }, false, retry)
  else
    local stage = call('HGET', job_key(id), 'stage') or ''
    end_attempt(id, job, { code = 'unavailable', sentence = 'worker ' .. worker ..
      ' stopped answering' .. (stage ~= '' and ' during ' .. stage or '') .. ' in attempt ' ..
      job.attempt }, false, retry)
  end
end

-- Nobody swept for a while: Redis or all brokers were away, so leases could not be renewed either.
-- Each gets a fresh one instead of all work being done twice.
local function grace(deadline_ms)
  local late = call('ZRANGEBYSCORE', T .. 'leases', '-inf', '(' .. text(deadline_ms))
  for i = 1, #late do call('ZADD', T .. 'leases', text(deadline_ms), late[i]) end
end

-- Forget jobs that ended long ago.
local function purge(limit, before_ms)
  local old = call('ZRANGEBYSCORE', T .. 'ended', '-inf', text(before_ms), 'LIMIT', 0, limit)
  for i = 1, #old do
    local id = old[i]
    call('HINCRBY', T .. 'counts', call('HGET', job_key(id), 'state'), -1)
    call('ZREM', T .. 'ended', id)
    call('ZREM', T .. 'index', id)
    call('UNLINK', job_key(id), spec_key(id))
  end
end

-- sweep: limit base_ms cap_ms random gap_ms lease_ms retention_ms
--   -> expired, promoted, ms until the next lease or delay ends (-1: none)
F.sweep = function(limit, base_ms, cap_ms, random, gap_ms, lease_ms, retention_ms)
  local ms = now_ms()
  local last = tonumber(call('GET', T .. 'swept') or text(ms))
  call('SET', T .. 'swept', text(ms))
  if ms - last > tonumber(gap_ms) then grace(ms + tonumber(lease_ms)) end
  local late = call('ZRANGEBYSCORE', T .. 'leases', '-inf', text(ms), 'LIMIT', 0, limit)
  for i = 1, #late do
    local job = load(late[i])
    if is_leased(job) then
      expire(late[i], job, retry_of(base_ms, cap_ms, random))
    else
      call('ZREM', T .. 'leases', late[i])
    end
  end
  local due = call('ZRANGEBYSCORE', T .. 'delayed', '-inf', text(ms), 'LIMIT', 0, limit)
  for i = 1, #due do
    local job = load(due[i])
    call('ZREM', T .. 'delayed', due[i])
    if job.state == 'delayed' then enqueue(due[i], 'delayed', job.model, job.priority, ms) end
  end
  if tonumber(retention_ms) > 0 then purge(limit, ms - tonumber(retention_ms)) end
  local next_ms = -1
  for _, key in ipairs({ 'leases', 'delayed' }) do
    local first = call('ZRANGE', T .. key, 0, 0, 'WITHSCORES')
    if first[2] then
      local wait = math.max(tonumber(first[2]) - ms, 0)
      if next_ms < 0 or wait < next_ms then next_ms = wait end
    end
  end
  return { #late, #due, next_ms }
end

local function status_of(id)
  return call('HMGET', job_key(id), unpack(FIELDS))
end

-- status: id... -> id, fields, id, fields, ...
F.status = function(...)
  local ids, out = { ... }, {}
  for i = 1, #ids do
    out[2 * i - 1] = ids[i]
    out[2 * i] = status_of(ids[i])
  end
  return out
end

-- label: "key=value", or "key" with any value; labels: "key=value,key=value"
local function has_label(labels, label)
  local list = ',' .. labels .. ','
  return string.find(list, ',' .. label .. ',', 1, true) or
         string.find(list, ',' .. label .. '=', 1, true)
end

-- list: state label limit cursor -> cursor for the next page ('' on the last), then id, fields, ...
-- Newest first. A cursor is the sequence number of the last job that was looked at.
F.list = function(state, label, limit, cursor)
  local out, seen = { '' }, 0
  local from = cursor == '' and '+inf' or '(' .. cursor
  local ids = call('ZREVRANGEBYSCORE', T .. 'index', from, '-inf', 'WITHSCORES', 'LIMIT', 0,
                   LIST_SCAN_MAX)
  for i = 1, #ids, 2 do
    local job = status_of(ids[i])
    seen = i + 1
    if job[1] and (state == '' or job[1] == state) and
       (label == '' or has_label(job[11], label)) then
      out[#out + 1] = ids[i]
      out[#out + 1] = job
      if #out >= 2 * tonumber(limit) + 1 then break end
    end
  end
  if seen > 0 and (seen < #ids or #ids == 2 * LIST_SCAN_MAX) then out[1] = ids[seen] end
  return out
end

-- stats: state... -> number of jobs in each
F.stats = function(...)
  local counts = call('HMGET', T .. 'counts', ...)
  for i = 1, #counts do counts[i] = tonumber(counts[i] or '0') end
  return counts
end

-- The sorted set that a job of this state must be in; it must be in no other.
local function home_of(state, model)
  if state == 'queued' then return ready_key(model) end
  if state == 'leased' or state == 'running' then return T .. 'leases' end
  if state == 'delayed' or state == 'dead' then return T .. state end
  return T .. 'ended'
end

-- audit: -> what disagrees with the jobs' hashes, one text each. Looks at everything.
F.audit = function()
  local bad, counts, models = {}, {}, {}
  local ids = call('ZRANGE', T .. 'index', 0, -1)
  local members = 0
  for i = 1, #ids do
    local v = call('HMGET', job_key(ids[i]), 'state', 'model', 'nonce')
    local state, model = v[1] or 'missing', v[2] or ''
    counts[state] = (counts[state] or 0) + 1
    models[model] = true
    if not call('ZSCORE', home_of(state, model), ids[i]) then
      bad[#bad + 1] = ids[i] .. ' is ' .. state .. ' but not in its index'
    end
    local is_live = state == 'leased' or state == 'running'
    if is_live and not v[3] then bad[#bad + 1] = ids[i] .. ' is leased without a nonce' end
    local has_spec = call('EXISTS', spec_key(ids[i])) == 1
    if has_spec == (state == 'done' or state == 'cancelled') then
      bad[#bad + 1] = ids[i] .. ' is ' .. state .. (has_spec and ' with' or ' without') .. ' a spec'
    end
  end
  for model in pairs(models) do members = members + call('ZCARD', ready_key(model)) end
  for _, key in ipairs({ 'leases', 'delayed', 'dead', 'ended' }) do
    members = members + call('ZCARD', T .. key)
  end
  if members ~= #ids then
    bad[#bad + 1] = #ids .. ' jobs, but ' .. members .. ' entries in the indexes of states'
  end
  local held_counts = call('HGETALL', T .. 'counts')
  for i = 1, #held_counts, 2 do
    local want = counts[held_counts[i]] or 0
    if tonumber(held_counts[i + 1]) ~= want then
      bad[#bad + 1] = 'count of ' .. held_counts[i] .. ' is ' .. held_counts[i + 1] ..
                      ', not ' .. want
    end
    counts[held_counts[i]] = nil
  end
  for state, n in pairs(counts) do bad[#bad + 1] = n .. ' jobs ' .. state .. ' are not counted' end
  return bad
end

return F[ARGV[1]](unpack(ARGV, 2))
