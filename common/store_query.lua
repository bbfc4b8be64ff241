-- store_query.lua - what can be asked about jobs, queues and tenants. Nothing here changes them.

-- Jobs that one call of `list` looks at, so that a rare label can't hold up everybody else.
local LIST_SCAN_MAX = 1000

-- What `status` and `list` answer, in this order, and then position and eta_ms;
-- common/store_reply.c reads it so.
local FIELDS = {
  'state', 'attempt', 'tries', 'attempts', 'priority', 'submitted', 'started', 'ended', 'progress',
  'model', 'labels', 'worker', 'stage', 'code', 'sentence', 'video', 'poster', 'manifest',
  'tenant', 'batch', 'deadline',
}

-- Its place in the line of its tenant, which takes turns with the other tenants of the lane; nil
-- when it is in no line.
local function position_of(id, job)
  local rank = call('ZRANK', ready_key(job.lane, job.tenant), id)
  if not rank then return nil end
  return rank * math.max(call('ZCARD', T .. 'active:' .. job.lane), 1) + 1
end

-- Milliseconds until a job at this place may be done, by what jobs of its model took so far and how
-- many run now.
local function eta_of(job, position)
  local held = call('HMGET', T .. 'counts', 'leased', 'running')
  local workers = math.max(tonumber(held[1] or '0') + tonumber(held[2] or '0'), 1)
  return math.ceil(position / workers) * typical_ms(job.model)
end

local function status_of(id)
  local v = call('HMGET', job_key(id), unpack(FIELDS))
  local position, eta = 0, 0
  if v[1] == 'queued' then
    local job = load(id)
    position = position_of(id, job) or 0
    if position > 0 then eta = eta_of(job, position) end
  elseif v[1] == 'running' then
    eta = math.max(typical_ms(v[10]) - (now_ms() - tonumber(v[7] or '0')), 0)
  end
  v[#FIELDS + 1], v[#FIELDS + 2] = text(position), text(eta)
  return v
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
    local v = call('HMGET', job_key(ids[i]), 'state', 'labels')
    seen = i + 1
    if v[1] and (state == '' or v[1] == state) and
       (label == '' or has_label(v[2] or '', label)) then
      out[#out + 1] = ids[i]
      out[#out + 1] = status_of(ids[i])
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

-- batch: tenant name -> nothing, or one row: total left done dead cancelled
F.batch = function(tenant, name)
  local v = call('HMGET', batch_key(tenant, name), 'total', 'left', 'done', 'dead', 'cancelled')
  if not v[1] then return {} end
  for i = 1, 5 do v[i] = v[i] or '0' end
  return { v }
end

-- events: cursor limit -> rows: cursor job state tenant more
-- Those behind the cursor ('': from the oldest that is kept), oldest first.
F.events = function(cursor, limit)
  local out = {}
  local found = call('XRANGE', T .. 'events', cursor == '' and '-' or '(' .. cursor, '+', 'COUNT',
                     limit)
  for i = 1, #found do
    local f = found[i][2]
    out[i] = { found[i][1], f[2], f[4], f[6], f[8] }
  end
  return out
end

-- queues: -> rows: model needs_mib tenant ready waits_for ("": a worker; "cap" or "pause")
F.queues = function()
  local out = {}
  local lanes = call('SMEMBERS', T .. 'lanes')
  table.sort(lanes)
  for i = 1, #lanes do
    local model, needs = string.match(lanes[i], '^(.-)~(%d+)$')
    model, needs = model or lanes[i], needs or '0'
    local paused = call('HGET', T .. 'paused', model) or call('HGET', T .. 'paused', '') == 'pause'
    local tenants = call('ZRANGE', T .. 'active:' .. lanes[i], 0, 999)
    for j = 1, #tenants do
      local ready = call('ZCARD', ready_key(lanes[i], tenants[j]))
      out[#out + 1] = { model, needs, tenants[j], text(ready), paused and 'pause' or '' }
    end
    local away = call('HKEYS', T .. 'passes:' .. lanes[i])
    for j = 1, math.min(#away, 1000) do
      local ready = call('ZCARD', ready_key(lanes[i], away[j]))
      if ready > 0 and call('SISMEMBER', T .. 'parked:' .. away[j], lanes[i]) == 1 then
        local is_paused = call('HGET', tenant_key(away[j]), 'paused') == '1'
        out[#out + 1] = { model, needs, away[j], text(ready), is_paused and 'pause' or 'cap' }
      end
    end
  end
  return out
end

local function why_queued(id, job, say)
  local position = position_of(id, job)
  local v = call('HMGET', tenant_key(job.tenant), 'paused', 'running_max', 'held')
  if call('HGET', T .. 'paused', '') == 'pause' then say('the whole queue is paused') end
  if call('HGET', T .. 'paused', job.model) then say('model ' .. job.model .. ' is paused') end
  if v[1] == '1' then say('tenant ' .. job.tenant .. ' is paused') end
  if tonumber(v[2] or '0') > 0 and tonumber(v[3] or '0') >= tonumber(v[2]) then
    say('tenant ' .. job.tenant .. ' has its quota of ' .. v[2] .. ' running jobs')
  end
  if job.needs then
    say('it ran out of memory on a worker with ' .. job.needs .. ' MiB and waits for a larger one')
  end
  local rank = call('ZRANK', ready_key(job.lane, job.tenant), id) or 0
  local rivals = call('ZCARD', T .. 'active:' .. job.lane)
  say(text(rank) .. ' jobs of its tenant go first' ..
      (rivals > 1 and ', in turn with ' .. text(rivals - 1) .. ' other tenants' or ''))
  if not call('HGET', T .. 'fleet', job.model) then
    say('no worker has asked for jobs of model ' .. job.model .. ' so far')
  elseif position then
    say('about ' .. text(eta_of(job, position) / 1000) .. ' s until it is done')
  end
end

local function seconds_left(key, id, ms)
  local at = tonumber(call('ZSCORE', T .. key, id) or text(ms))
  return text(math.max(at - ms, 0) / 1000) .. ' s'
end

-- why: id -> sentences that say why the job is not running, one a row; nothing: no such job
F.why = function(id)
  local job, ms, out = load(id), now_ms(), {}
  local v = call('HMGET', job_key(id), 'sentence', 'worker', 'stage', 'pending', 'quarantined')
  local function say(sentence) out[#out + 1] = { sentence } end
  if job.state == 'unknown' then return out end
  say('it is ' .. job.state)
  if job.state == 'queued' then why_queued(id, job, say) end
  if job.state == 'blocked' then say('it waits for ' .. (v[4] or '0') .. ' other jobs to end') end
  if job.state == 'delayed' then
    say('its next try is in ' .. seconds_left('delayed', id, ms))
  end
  if is_leased(job) then
    say('worker ' .. (v[2] or '') .. ' has it' .. (v[3] and v[3] ~= '' and ', in ' .. v[3] or '') ..
        '; the lease ends in ' .. seconds_left('leases', id, ms))
  end
  if call('ZSCORE', T .. 'deadlines', id) then
    say('its deadline is in ' .. seconds_left('deadlines', id, ms))
  end
  if job.tries > 0 and job.state ~= 'done' then
    say(job.tries .. ' of ' .. job.attempts .. ' tries are used')
  end
  if v[1] and job.state ~= 'done' then say('the last attempt: ' .. v[1]) end
  if v[5] then say('it is quarantined: only a redrive of this very job runs it again') end
  return out
end
