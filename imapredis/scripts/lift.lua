-- KEYS: the account. Attempts under way go on; what they come to counts.
local account = read(KEYS[1])
for _, f in ipairs(account.failures) do
	if f.ends == 0 then
		redis.call('HDEL', KEYS[1], 'f' .. f.ticket)
	end
end
for backend in pairs(account.held) do
	redis.call('HDEL', KEYS[1], 'h' .. backend)
end
-- Another instance may still merge them.
redis.call('HSET', KEYS[1], 'l', int(now))
keep(KEYS[1], tonumber(ARGV[3]))
return 1
