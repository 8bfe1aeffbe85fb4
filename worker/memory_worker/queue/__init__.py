"""The queue in Redis: keys, job log, lease, dead letters, doorbell, and the Lua scripts that keep them whole."""
