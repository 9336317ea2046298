-- What all scripts begin with.
--
-- ARGV[1] is the time of the instance that asks, ARGV[2] how far that may be from
-- the server's. Times are in milliseconds since 1970. An instance whose clock is
-- wrong is counted by the clock of the server: what it says is moved by shift, and
-- what it is told is moved back.
local clock = redis.call('TIME')
local server = clock[1] * 1000 + math.floor(clock[2] / 1000)
local now = tonumber(ARGV[1])
local shift = 0
if math.abs(server - now) > tonumber(ARGV[2]) then
	shift = server - now
	now = server
end

-- nobody is the source of attempts of which it is not known.
local nobody = string.rep('0', 16)

-- int writes a number such that no digit is lost.
local function int(n)
	return string.format('%.0f', n)
end

-- keep has a key expire at the earliest in so many milliseconds.
local function keep(key, ms)
	if redis.call('PTTL', key) < ms then
		redis.call('PEXPIRE', key, int(ms))
	end
end

-- An account is a hash. Its fields are
--
--   f<ticket>  a failure: its home, its time, and 0, or - if it is not to be forgiven;
--              or an attempt under way: its home, when it began, and when nobody
--              believes in it any more, by the clock of the server
--   k<home>    a source that has logged in, and when it did last
--   g          how many failures were forgiven, and when that was last
--   h<backend> until when a backend wants to be left alone
--   l          when an operator had the failures forgotten
--
-- What cannot be read is none of these.
local function read(key)
	local account = {failures = {}, known = {}, forgiven = 0, forgave = 0, held = {}, lifted = 0}
	local fields = redis.call('HGETALL', key)
	for i = 1, #fields, 2 do
		local kind, name, value = fields[i]:sub(1, 1), fields[i]:sub(2), fields[i + 1]
		if kind == 'f' then
			local home, at, ends = value:match('^(%w+) (%d+) ([-%d]+)$')
			if home then
				table.insert(account.failures, {
					ticket = name, home = home, at = tonumber(at), ends = tonumber(ends) or 0, stale = ends == '-',
				})
			end
		elseif kind == 'k' then
			account.known[name] = tonumber(value)
		elseif kind == 'g' then
			local count, at = value:match('^(%d+) (%d+)$')
			account.forgiven, account.forgave = tonumber(count) or 0, tonumber(at) or 0
		elseif kind == 'h' then
			account.held[name] = tonumber(value) or 0
		elseif kind == 'l' then
			account.lifted = tonumber(value) or 0
		end
	end
	return account
end

local function put(key, ticket, home, at, ends, stale)
	redis.call('HSET', key, 'f' .. ticket, home .. ' ' .. int(at) .. ' ' .. (stale and '-' or int(ends)))
end

-- trim drops the oldest of a list, from the key as well.
local function trim(key, kind, list, most)
	if #list <= most then
		return
	end
	table.sort(list, function(a, b) return a.at < b.at end)
	for i = 1, #list - most do
		redis.call('HDEL', key, kind .. list[i].name)
	end
end

local function trim_failures(key, failures, most)
	local list = {}
	for _, f in ipairs(failures) do
		if f.ends == 0 then
			table.insert(list, {name = f.ticket, at = f.at})
		end
	end
	trim(key, 'f', list, most)
end

local function trim_known(key, known, most, known_for)
	local list = {}
	for home, at in pairs(known) do
		if now - at < known_for then
			table.insert(list, {name = home, at = at})
		else
			redis.call('HDEL', key, 'k' .. home)
		end
	end
	trim(key, 'k', list, most)
end

-- banned returns until when a source is, or 0.
local function banned(key)
	local ends = tonumber(redis.call('GET', key) or 0) or 0
	if ends > now then
		return ends
	end
	return 0
end

-- ban bans a source. The key outlives the ban for the instances whose clocks are a
-- little behind.
local function ban(key, ends)
	redis.call('SET', key, int(ends), 'PX', int(ends - now + tonumber(ARGV[2])))
end
