# Threads, processes and sockets in Ruby.
mutex = Mutex.new
total = 0
4.times.map { |n| Thread.new { 200.times { mutex.synchronize { total += n } } } }.each(&:join)
puts total
queue = Queue.new
producer = Thread.new { 10.times { |n| queue << n }; queue << nil }
sum = 0
while (n = queue.pop)
  sum += n
end
producer.join
puts sum
pid = fork { exit 7 }
Process.wait(pid)
puts $?.exitstatus
puts `echo from a child`
reader, writer = IO.pipe
spawn("echo spawned", out: writer)
Process.wait
writer.close
puts reader.read
require "socket"
server = TCPServer.new("127.0.0.1", 0)
thread = Thread.new { c = server.accept; c.puts c.gets.upcase; c.close }
client = TCPSocket.new("127.0.0.1", server.addr[1])
client.puts "hello"
puts client.read
thread.join
trap("USR1") { puts "trapped" }
Process.kill("USR1", $$)
sleep 0.05
f = Fiber.new { 3.times { |i| Fiber.yield i }; :done }
p 4.times.map { f.resume }
GC.start
puts (1..20000).map(&:to_s).group_by(&:size).transform_values(&:size)
