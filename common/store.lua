-- store.lua - every transition of a job, each a function that happens wholly or not at all.
--
-- The first of three files that are loaded as one library; store_query.lua reads, store_admin.lua
-- rules and repairs. T is the shard's hash tag, "{00}"; every key below starts with it, so that a
-- shard is one slot of a Redis Cluster.
-- The job's hash is the truth. Every index follows from it: `audit` checks that, and repairs it.
--
--   job:<id>          hash    the job
--   spec:<id>         string  its parameters as bytes; gone when it is done or cancelled
--   ready:<lane>:<tenant>  zset  queued jobs -> time they became ready, moved forward by priority
--   active:<lane>     zset    tenants with queued jobs -> pass (stride scheduling)
--   passes:<lane>     hash    absent tenant -> its last pass
--   clock:<lane>      string  pass of the last claim: absent tenants come back here, not before
--   lanes             set     lanes that were ever used
--   big:<model>       zset    lanes of jobs that ran out of memory -> MiB that were too few
--   fleet             hash    model -> MiB of the largest worker that ever claimed it
--   parked:<tenant>   set     lanes in which it waits for its cap or its pause to end
--   tenant:<tenant>   hash    waiting, held, bytes: gauges; the rest: limits, see store_admin.lua
--   leases            zset    leased and running jobs -> deadline of the lease
--   delayed           zset    delayed jobs -> time of the next try
--   deadlines         zset    live jobs that have a deadline -> that time
--   dead              zset    dead jobs -> time of death
--   ended             zset    done and cancelled jobs -> time of the end
--   index             zset    all jobs -> sequence number of their submission
--   sequence          string  the last sequence number
--   children:<id>     set     blocked jobs that wait for <id>
--   fan               list    ended parents with children left to tell
--   batch:<tenant>:<name>  hash  total, left, done, dead, cancelled, forgotten: numbers of jobs
--   counts            hash    state -> number of jobs
--   typical           hash    model -> ms that its jobs take (moving average)
--   paused            hash    "" (everything) -> "pause" or "drain"; model -> "pause"
--   events            stream  what happened to jobs, for those who follow
--   tenants           set     tenants that have limits
--   swept             string  time of the last sweep
--
-- A lane is a model, or "model~MIB" for jobs that need a worker with more memory than that.
-- States and transitions: common/job.h. Times are milliseconds of Redis' clock.
local T
local F = {}
local call -- redis.call: not there yet while Redis 7 loads a library
local clock_ms -- of this call, once it was asked for

-- Run a function of F for the shard with this hash tag.
local function enter_library(tag, name, ...)
  T, call, clock_ms = tag, redis.call, nil
  return F[name](...)
end

-- One step of priority is worth ten minutes of waiting: the low are late, but never starve.
local PRIORITY_MS = 600000

-- Leases that may be lost before their start, for each try that the job has. A job whose input
-- kills whoever looks at it must not go round for ever; an unlucky one must live.
local UNSTARTED_PER_TRY = 5

-- Distinct workers that may be lost while they run a job; then it is taken for their murderer.
local POISON_WORKERS = 3

-- Attempts that may run into their timeout: what was too slow twice will be so again.
local TIMEOUTS_MAX = 2

-- What a job of an unknown model is thought to take.
local TYPICAL_MS = 10000

-- Children that one call tells about their parent; the sweep goes on with the rest.
local FAN_MAX = 200

-- Tenants that one claim looks at. Those that may not run are parked, so it is seldom above one.
local TENANTS_LOOKED_AT_MAX = 64

local EVENTS_MAX = 10000

-- Policies by class of error. final: never again. wait: multiple of the usual wait before the next
-- try; 0: at once, since another worker may do it. Every failed attempt costs a try.
local POLICIES = {
  input = { final = true }, stopped = { final = true },
  storage = { wait = 1 }, lost = { wait = 1 }, timeout = { wait = 1, max = TIMEOUTS_MAX },
  memory = { wait = 0 }, device = { wait = 0 },
}
local CLASSES = {
  badarg = 'input', notfound = 'input', conflict = 'input', corrupt = 'input',
  cancelled = 'stopped', io = 'storage', unavailable = 'storage', full = 'storage',
  timeout = 'timeout', nomem = 'memory', device = 'device',
}

-- Which gauge of its tenant a job in this state counts for.
local GAUGES = {
  queued = 'waiting', delayed = 'waiting', blocked = 'waiting', leased = 'held', running = 'held',
}

local function job_key(id) return T .. 'job:' .. id end
local function spec_key(id) return T .. 'spec:' .. id end
local function tenant_key(tenant) return T .. 'tenant:' .. tenant end
local function ready_key(lane, tenant) return T .. 'ready:' .. lane .. ':' .. tenant end
local function batch_key(tenant, name) return T .. 'batch:' .. tenant .. ':' .. name end

local function now_ms()
  if not clock_ms then
    local t = call('TIME')
    clock_ms = t[1] * 1000 + math.floor(t[2] / 1000)
  end
  return clock_ms
end

-- Whole numbers as text: Lua would write 1.7e+12.
local function text(n) return string.format('%.0f', n) end

local function tell(id, state, tenant, more)
  call('XADD', T .. 'events', 'MAXLEN', '~', EVENTS_MAX, '*', 'job', id, 'state', state, 'tenant',
       tenant, 'more', more or '')
end

-- --- tenants: who may run, and who is next ------------------------------------------------------

-- May this tenant run no more now? And its weight.
local function is_held_back(tenant)
  local v = call('HMGET', tenant_key(tenant), 'running_max', 'held', 'paused', 'weight')
  local max = tonumber(v[1] or '0')
  return v[3] == '1' or (max > 0 and tonumber(v[2] or '0') >= max), v[4]
end

local function leave(lane, tenant)
  local pass = call('ZSCORE', T .. 'active:' .. lane, tenant)
  if pass then
    call('ZREM', T .. 'active:' .. lane, tenant)
    call('HSET', T .. 'passes:' .. lane, tenant, pass)
  end
end

-- The tenant has queued jobs in the lane: claims shall find it. If it may not run, the first parks it.
local function enter(lane, tenant)
  if call('ZSCORE', T .. 'active:' .. lane, tenant) then return end
  local last = tonumber(call('HGET', T .. 'passes:' .. lane, tenant) or '0')
  local clock = tonumber(call('GET', T .. 'clock:' .. lane) or '0')
  call('ZADD', T .. 'active:' .. lane, text(math.max(last, clock)), tenant)
end

-- Something about the tenant's right to run has changed for the better.
local function unpark(tenant)
  if call('EXISTS', T .. 'parked:' .. tenant) == 0 or is_held_back(tenant) then return end
  local lanes = call('SMEMBERS', T .. 'parked:' .. tenant)
  call('DEL', T .. 'parked:' .. tenant)
  for i = 1, #lanes do
    if call('EXISTS', ready_key(lanes[i], tenant)) == 1 then enter(lanes[i], tenant) end
  end
end

-- Charge a tenant of this weight device time in the lane; its next turn comes so much later.
local function charge(lane, tenant, ms, weight)
  local by = text(ms / tonumber(weight or '1'))
  if not call('ZADD', T .. 'active:' .. lane, 'XX', 'INCR', by, tenant) then
    call('HINCRBY', T .. 'passes:' .. lane, tenant, by)
  end
end

local function typical_ms(model)
  return tonumber(call('HGET', T .. 'typical', model) or TYPICAL_MS)
end

-- --- one job ------------------------------------------------------------------------------------

-- The part of a job that transitions look at; state 'unknown' when there is no such job.
local function load(id)
  local v = call('HMGET', job_key(id), 'state', 'attempt', 'nonce', 'tries', 'attempts', 'model',
                 'priority', 'started', 'timeout', 'submitted', 'tenant', 'batch', 'needs',
                 'charged', 'deadline')
  return {
    state = v[1] or 'unknown', attempt = v[2], nonce = v[3], tries = tonumber(v[4] or '0'),
    attempts = tonumber(v[5] or '0'), model = v[6], priority = tonumber(v[7] or '0'),
    started = tonumber(v[8] or '0'), timeout = tonumber(v[9] or '0'),
    submitted = tonumber(v[10] or '0'), tenant = v[11] or 'default', batch = v[12],
    needs = v[13], charged = tonumber(v[14] or '0'), deadline = v[15],
    lane = v[13] and v[6] .. '~' .. v[13] or v[6],
  }
end

local function is_leased(job) return job.state == 'leased' or job.state == 'running' end
local function is_final(state) return state == 'done' or state == 'dead' or state == 'cancelled' end

-- The one place where states change, so that counts and gauges follow. Further fields of the job
-- and their values go with it.
local function set_state(id, job, to, ...)
  local from, key = GAUGES[job.state], tenant_key(job.tenant)
  call('HSET', job_key(id), 'state', to, ...)
  if job.state ~= 'unknown' then call('HINCRBY', T .. 'counts', job.state, -1) end
  call('HINCRBY', T .. 'counts', to, 1)
  if from ~= GAUGES[to] then
    if from then call('HINCRBY', key, from, -1) end
    if GAUGES[to] then call('HINCRBY', key, GAUGES[to], 1) end
  end
  job.state = to
  if from == 'held' and GAUGES[to] ~= 'held' then unpark(job.tenant) end
end

local function enqueue(id, job, ready_ms, ...)
  local key = ready_key(job.lane, job.tenant)
  set_state(id, job, 'queued', ...)
  call('ZADD', key, text(ready_ms - job.priority * PRIORITY_MS), id)
  if call('ZCARD', key) == 1 then
    call('SADD', T .. 'lanes', job.lane)
    enter(job.lane, job.tenant)
  end
end

local function leave_line(id, job)
  local key = ready_key(job.lane, job.tenant)
  call('ZREM', key, id)
  if call('EXISTS', key) == 0 then
    leave(job.lane, job.tenant)
    call('SREM', T .. 'parked:' .. job.tenant, job.lane)
  end
end

-- Fields of a present lease, and those named, go when it ends; what was charged becomes what was
-- used.
local function drop_lease(id, job, ...)
  local used = job.started > 0 and math.max(now_ms() - job.started, 0) or 0
  if used ~= job.charged then
    charge(job.lane, job.tenant, used - job.charged, call('HGET', tenant_key(job.tenant), 'weight'))
  end
  job.charged = 0
  call('ZREM', T .. 'leases', id)
  call('HDEL', job_key(id), 'nonce', 'stage', 'progress', 'charged', ...)
  return used
end

local function drop_spec(id, job)
  local bytes = call('STRLEN', spec_key(id))
  if bytes > 0 then call('HINCRBY', tenant_key(job.tenant), 'bytes', -bytes) end
  call('UNLINK', spec_key(id))
end

local finish

-- One parent of the blocked job has ended.
local function tell_child(id, parent_is_done)
  local job = load(id)
  if job.state ~= 'blocked' then return end
  if not parent_is_done and call('HGET', job_key(id), 'after_failed') ~= 'run' then
    call('HSET', job_key(id), 'code', 'cancelled', 'sentence', 'a job that it waits for has failed')
    finish(id, job, 'cancelled')
  elseif call('HINCRBY', job_key(id), 'pending', -1) <= 0 then
    call('HDEL', job_key(id), 'pending')
    enqueue(id, job, now_ms())
  end
end

-- Tell up to FAN_MAX children; true when all have heard it.
local function tell_children(id, is_done)
  local children = call('SPOP', T .. 'children:' .. id, FAN_MAX)
  for i = 1, #children do tell_child(children[i], is_done) end
  return #children < FAN_MAX
end

local function count_batch(job, to)
  if not job.batch then return end
  local key = batch_key(job.tenant, job.batch)
  call('HINCRBY', key, to, 1)
  if call('HINCRBY', key, 'left', -1) == 0 then tell('', 'batch', job.tenant, job.batch) end
end

-- Enter done, dead or cancelled. Children hear it with the next sweep: a chain of a thousand
-- failures must not become a thousand nested calls.
finish = function(id, job, to, ...)
  local ms = text(now_ms())
  set_state(id, job, to, 'ended', ms, ...)
  if job.deadline then call('ZREM', T .. 'deadlines', id) end
  if to == 'dead' then
    call('ZADD', T .. 'dead', ms, id)
  else
    drop_spec(id, job)
    call('ZADD', T .. 'ended', ms, id)
  end
  count_batch(job, to)
  if call('EXISTS', T .. 'children:' .. id) == 1 then
    call('RPUSH', T .. 'fan', (to == 'done' and '1' or '0') .. id)
  end
  tell(id, to, job.tenant, job.batch)
end

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

-- --- in and out ---------------------------------------------------------------------------------

-- Is there room for a job of this tenant? nil, or why not.
local function refusal(tenant, queued_max, bytes, ms)
  local counts = call('HMGET', T .. 'counts', 'queued', 'delayed', 'blocked')
  local waiting = 0
  for i = 1, 3 do waiting = waiting + tonumber(counts[i] or '0') end
  if call('HGET', T .. 'paused', '') == 'drain' then return 'the queue is being drained' end
  if waiting >= tonumber(queued_max) then
    return 'the queue is full: ' .. text(waiting) .. ' jobs wait (queued_max)'
  end
  local key = tenant_key(tenant)
  local v = call('HMGET', key, 'queued_max', 'waiting', 'bytes_max', 'bytes', 'rate', 'burst',
                 'tokens', 'filled')
  local who = 'tenant ' .. tenant
  if tonumber(v[1] or '0') > 0 and tonumber(v[2] or '0') >= tonumber(v[1]) then
    return who .. ' has its quota of ' .. v[1] .. ' waiting jobs'
  end
  if tonumber(v[3] or '0') > 0 and tonumber(v[4] or '0') + bytes > tonumber(v[3]) then
    return who .. ' has its quota of ' .. v[3] .. ' bytes of parameters'
  end
  local rate = tonumber(v[5] or '0')
  if rate > 0 then
    local burst = math.max(tonumber(v[6] or '0'), 1)
    local tokens = tonumber(v[7] or burst) + math.max(ms - tonumber(v[8] or ms), 0) * rate / 1000
    tokens = math.min(tokens, burst)
    if tokens < 1 then return who .. ' has its quota of ' .. v[5] .. ' jobs a second' end
    call('HSET', key, 'tokens', string.format('%.6f', tokens - 1), 'filled', text(ms))
  end
end

-- The jobs that a new one waits for: number of those still to end, or nil and the verdict.
local function wait_for(id, after, after_failed)
  local pending, parents = 0, {}
  for parent in string.gmatch(after, '[^,]+') do
    local state = call('HGET', job_key(parent), 'state')
    if not state then return nil, { 'orphan', parent } end
    if (state == 'dead' or state == 'cancelled') and after_failed ~= 'run' then
      return nil, { 'hopeless', parent .. ' is ' .. state }
    end
    if not is_final(state) then parents[#parents + 1] = parent end
  end
  for i = 1, #parents do
    pending = pending + call('SADD', T .. 'children:' .. parents[i], id)
  end
  return pending
end

-- submit: id tenant model priority attempts timeout_ms labels batch delay_ms deadline_ms after
--   after_failed queued_max spec -> verdict, state, or a word why not and its detail
F.submit = function(id, tenant, model, priority, attempts, timeout_ms, labels, batch, delay_ms,
                    deadline_ms, after, after_failed, queued_max, spec)
  local key, digest = job_key(id), string.sub(redis.sha1hex(spec), 1, 24)
  local old = call('HMGET', key, 'state', 'digest')
  if old[1] then return { old[2] == digest and 'duplicate' or 'conflict', old[1] } end
  local ms = now_ms()
  local why = refusal(tenant, queued_max, #spec, ms)
  if why then return { 'full', why } end
  local pending, verdict = wait_for(id, after, after_failed)
  if not pending then return verdict end
  local fields = { 'model', model, 'attempts', attempts, 'timeout', timeout_ms, 'digest', digest,
                   'submitted', text(ms) }
  local function keep(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if priority ~= '0' then keep('priority', priority) end
  if labels ~= '' then keep('labels', labels) end
  if tenant ~= 'default' then keep('tenant', tenant) end
  if batch ~= '' then
    keep('batch', batch)
    call('HINCRBY', batch_key(tenant, batch), 'total', 1)
    call('HINCRBY', batch_key(tenant, batch), 'left', 1)
  end
  call('SET', spec_key(id), spec)
  call('HINCRBY', tenant_key(tenant), 'bytes', #spec)
  call('ZADD', T .. 'index', call('INCR', T .. 'sequence'), id)
  if tonumber(deadline_ms) > 0 then
    local at = text(ms + tonumber(deadline_ms))
    keep('deadline', at)
    call('ZADD', T .. 'deadlines', at, id)
  end
  local job = { state = 'unknown', tenant = tenant, lane = model, priority = tonumber(priority) }
  if pending > 0 then
    keep('pending', pending)
    keep('after', after)
    keep('after_failed', after_failed)
    set_state(id, job, 'blocked', unpack(fields))
  elseif tonumber(delay_ms) > 0 then
    set_state(id, job, 'delayed', unpack(fields))
    call('ZADD', T .. 'delayed', text(ms + tonumber(delay_ms)), id)
  else
    enqueue(id, job, ms, unpack(fields))
  end
  return { 'ok', job.state }
end

-- The next job of a lane, taken out of its line; or nil.
local function pop(lane)
  for _ = 1, TENANTS_LOOKED_AT_MAX do
    local first = call('ZRANGE', T .. 'active:' .. lane, 0, 0, 'WITHSCORES')
    local tenant = first[1]
    if not tenant then return nil end
    local is_held, weight = is_held_back(tenant)
    if is_held then
      leave(lane, tenant)
      call('SADD', T .. 'parked:' .. tenant, lane)
    else
      local key = ready_key(lane, tenant)
      local top = call('ZPOPMIN', key)
      call('SET', T .. 'clock:' .. lane, first[2])
      if call('EXISTS', key) == 0 then leave(lane, tenant) end
      if top[1] then return top[1], weight end
    end
  end
end

-- Lease a queued job, whose tenant has this weight; nil when it can't be.
local function lease(id, weight, worker, nonce, lease_ms, memory_mib)
  local job, key = load(id), job_key(id)
  if job.state ~= 'queued' then return nil end
  local spec = call('GET', spec_key(id))
  if not spec then
    call('HSET', key, 'code', 'corrupt', 'sentence', 'its parameters are gone from Redis')
    finish(id, job, 'dead')
    return nil
  end
  local attempt, cost = tonumber(job.attempt or '0') + 1, typical_ms(job.model)
  set_state(id, job, 'leased', 'attempt', attempt, 'nonce', nonce, 'worker', worker, 'charged',
            text(cost), 'memory', memory_mib)
  if job.started > 0 then call('HDEL', key, 'started') end
  charge(job.lane, job.tenant, cost, weight)
  call('ZADD', T .. 'leases', text(now_ms() + tonumber(lease_ms)), id)
  return { id, attempt, nonce, spec }
end

-- claim: worker nonce lease_ms memory_mib model... -> nothing, or id, attempt, nonce, spec
-- memory_mib: of the worker's device, 0: it does not say.
F.claim = function(worker, nonce, lease_ms, memory_mib, ...)
  local models, paused = { ... }, {}
  if call('EXISTS', T .. 'paused') == 1 then
    if call('HGET', T .. 'paused', '') == 'pause' then return {} end
    paused = call('HMGET', T .. 'paused', ...)
  end
  for i = 1, #models do
    local lanes = {}
    if memory_mib ~= '0' then
      local known = tonumber(call('HGET', T .. 'fleet', models[i]) or '0')
      if tonumber(memory_mib) > known then call('HSET', T .. 'fleet', models[i], memory_mib) end
      lanes = call('ZRANGEBYSCORE', T .. 'big:' .. models[i], '-inf', '(' .. memory_mib,
                   'LIMIT', 0, 8) -- those that only a large worker can do come first
    end
    lanes[#lanes + 1] = models[i]
    for j = 1, paused[i] and 0 or #lanes do
      local id, weight = pop(lanes[j])
      while id do
        local got = lease(id, weight, worker, nonce, lease_ms, memory_mib)
        if got then return got end
        id, weight = pop(lanes[j])
      end
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
    set_state(id, job, 'running')
    call('HSET', job_key(id), 'started', text(ms), 'tries', job.tries + 1)
    job.started = ms
    tell(id, 'running', job.tenant, job.batch)
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
  local began = job.state == 'leased' and text(now_ms()) or text(job.started)
  local tries = job.state == 'leased' and job.tries + 1 or job.tries
  local used = drop_lease(id, job, 'code', 'sentence', 'suspects', 'timeouts')
  if used > 0 then
    local known = call('HGET', T .. 'typical', job.model)
    local typical = known and 0.8 * tonumber(known) + 0.2 * used or used
    call('HSET', T .. 'typical', job.model, text(math.max(typical, 1)))
  end
  finish(id, job, 'done', 'nonce', nonce, 'video', video, 'poster', poster, 'manifest', manifest,
         'progress', '1', 'tries', tries, 'started', began)
  return { 'ok', 'done' }
end

-- Out of memory: only a worker with more will do. Is there one? Else why the job must die.
local function seek_memory(id, job)
  local had = tonumber(call('HGET', job_key(id), 'memory') or '0')
  local most = tonumber(call('HGET', T .. 'fleet', job.model) or '0')
  if had == 0 then return nil end -- nobody knows who has more: the usual retry
  if most <= had then
    return 'it needs more memory than the ' .. text(had) .. ' MiB of the largest worker'
  end
  job.needs = text(had)
  job.lane = job.model .. '~' .. job.needs
  call('HSET', job_key(id), 'needs', job.needs)
  call('ZADD', T .. 'big:' .. job.model, had, job.lane)
end

-- Has this job now run into its timeout, or lost workers, too often? nil, or why it must die.
local function worn_out(id, class, policy)
  local key = job_key(id)
  if policy.max and call('HINCRBY', key, class .. 's', 1) >= policy.max then
    return 'it ran into its timeout ' .. policy.max .. ' times'
  end
  if class ~= 'lost' then return nil end
  local worker = string.match(call('HGET', key, 'worker') or '', '[^/]*$')
  local suspects = call('HGET', key, 'suspects') or ''
  if not string.find(suspects, worker, 1, true) then
    suspects = suspects == '' and worker or suspects .. ' ' .. worker
    call('HSET', key, 'suspects', suspects)
  end
  local _, count = string.gsub(suspects, '%S+', '')
  if count >= POISON_WORKERS then
    call('HSET', key, 'quarantined', '1')
    return 'quarantined: ' .. count .. ' workers were lost while they ran it'
  end
end

-- An attempt has failed: another try after a wait, or the end.
-- why: class, code, sentence; is_over: no more tries. retry: base_ms, cap_ms, random in [0,1)
local function end_attempt(id, job, why, is_over, retry)
  local policy, more = POLICIES[why.class], nil
  if job.state == 'leased' then job.tries = job.tries + 1 end
  drop_lease(id, job)
  more = worn_out(id, why.class, policy)
  if why.class == 'memory' then more = seek_memory(id, job) end
  call('HSET', job_key(id), 'tries', job.tries, 'code', why.code, 'sentence',
       string.sub(more and more .. '; ' .. why.sentence or why.sentence, 1, 511))
  if is_over or more or policy.final or job.tries >= job.attempts then
    finish(id, job, 'dead')
    return 'dead'
  end
  local wait = math.min(retry.base_ms * 2 ^ (job.tries - 1), retry.cap_ms) * policy.wait
  wait = math.floor(wait / 2 + wait / 2 * retry.random)
  set_state(id, job, 'delayed')
  call('ZADD', T .. 'delayed', text(now_ms() + wait), id)
  tell(id, 'delayed', job.tenant, job.batch)
  return 'delayed'
end

local function retry_of(base_ms, cap_ms, random)
  return { base_ms = tonumber(base_ms), cap_ms = tonumber(cap_ms), random = tonumber(random) }
end

-- fail: id attempt nonce code sentence base_ms cap_ms random -> verdict, state
F.fail = function(id, attempt, nonce, code, sentence, base_ms, cap_ms, random)
  local job, verdict = held(id, attempt, nonce)
  if not job then return verdict end
  local why = { class = CLASSES[code] or 'input', code = code, sentence = sentence }
  return { 'ok', end_attempt(id, job, why, false, retry_of(base_ms, cap_ms, random)) }
end

-- Back to its old place in the line; what was started does not count.
local function put_back(id, job)
  drop_lease(id, job)
  if job.state == 'running' then call('HSET', job_key(id), 'tries', job.tries - 1) end
  call('HDEL', job_key(id), 'started')
  enqueue(id, job, job.submitted)
end

-- release: id attempt nonce -> verdict, state
F.release = function(id, attempt, nonce)
  local job, verdict = held(id, attempt, nonce)
  if not job then return verdict end
  put_back(id, job)
  return { 'ok', 'queued' }
end

-- Take a live job out of wherever it is; its lease, if there is one.
local function pull_out(id, job)
  if job.state == 'queued' then leave_line(id, job) end
  if job.state == 'delayed' then call('ZREM', T .. 'delayed', id) end
  if not is_leased(job) then return {} end
  local worker = call('HGET', job_key(id), 'worker') or ''
  drop_lease(id, job)
  return { worker, id, job.attempt, job.nonce }
end

-- cancel: id -> verdict, state, and for a leased job worker, id, attempt, nonce
F.cancel = function(id)
  local job = load(id)
  if job.state == 'unknown' then return { 'unknown', job.state } end
  if job.state == 'cancelled' then return { 'duplicate', job.state } end
  if is_final(job.state) then return { 'conflict', job.state } end
  local old = pull_out(id, job)
  finish(id, job, 'cancelled')
  return { 'ok', 'cancelled', unpack(old) }
end

-- --- time ---------------------------------------------------------------------------------------

-- A lease ran out.
local function expire(id, job, retry)
  local worker = call('HGET', job_key(id), 'worker') or ''
  if job.state == 'leased' then
    local unstarted = call('HINCRBY', job_key(id), 'unstarted', 1)
    if unstarted <= UNSTARTED_PER_TRY * job.attempts then put_back(id, job) return end
    end_attempt(id, job, { class = 'storage', code = 'unavailable', sentence = unstarted ..
      ' workers were lost before they could start this job, the last was ' .. worker }, true, retry)
  elseif now_ms() >= job.started + job.timeout then
    end_attempt(id, job, { class = 'timeout', code = 'timeout', sentence = 'attempt ' ..
      job.attempt .. ' ran longer than its timeout of ' .. text(job.timeout / 1000) .. ' s' },
      false, retry)
  else
    local stage = call('HGET', job_key(id), 'stage') or ''
    end_attempt(id, job, { class = 'lost', code = 'unavailable', sentence = 'worker ' .. worker ..
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
    local v = call('HMGET', job_key(id), 'state', 'tenant', 'batch')
    if v[3] then -- a batch is forgotten with its last job
      local key = batch_key(v[2] or 'default', v[3])
      local total = tonumber(call('HGET', key, 'total') or '0')
      if call('HINCRBY', key, 'forgotten', 1) >= total then call('DEL', key) end
    end
    if v[1] then call('HINCRBY', T .. 'counts', v[1], -1) end
    call('ZREM', T .. 'ended', id)
    call('ZREM', T .. 'index', id)
    call('UNLINK', job_key(id), spec_key(id))
  end
end

-- Jobs whose deadline is over, wherever they are.
local function bury_late(limit, ms)
  local late = call('ZRANGEBYSCORE', T .. 'deadlines', '-inf', text(ms), 'LIMIT', 0, limit)
  for i = 1, #late do
    local job = load(late[i])
    call('ZREM', T .. 'deadlines', late[i])
    if job.state ~= 'unknown' and not is_final(job.state) then
      call('HSET', job_key(late[i]), 'code', 'timeout', 'sentence',
           'its deadline passed while it was ' .. job.state)
      pull_out(late[i], job)
      finish(late[i], job, 'dead')
    end
  end
end

-- Parents whose children have still to hear of their end.
local function fan_out()
  for _ = 1, 16 do
    local next = call('LINDEX', T .. 'fan', 0)
    if not next then return end
    if not tell_children(string.sub(next, 2), string.sub(next, 1, 1) == '1') then return end
    call('LPOP', T .. 'fan')
  end
end

local function next_due_ms(ms)
  if call('EXISTS', T .. 'fan') == 1 then return 0 end
  local wait = -1
  for _, key in ipairs({ 'leases', 'delayed', 'deadlines' }) do
    local first = call('ZRANGE', T .. key, 0, 0, 'WITHSCORES')
    if first[2] then
      local left = math.max(tonumber(first[2]) - ms, 0)
      if wait < 0 or left < wait then wait = left end
    end
  end
  return wait
end

-- sweep: limit base_ms cap_ms random gap_ms lease_ms retention_ms
--   -> expired, promoted, ms until something is due (-1: nothing)
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
    if job.state == 'delayed' then enqueue(due[i], job, ms) end
  end
  bury_late(limit, ms)
  fan_out()
  if tonumber(retention_ms) > 0 then purge(limit, ms - tonumber(retention_ms)) end
  return { #late, #due, next_due_ms(ms) }
end
