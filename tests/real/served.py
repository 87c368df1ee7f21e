"""A web server and its client, in two threads."""
import http.server
import threading
import urllib.request


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"you asked for {self.path}".encode()
        self.send_response(200 if self.path != "/none" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
thread = threading.Thread(target=server.serve_forever)
thread.start()
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for path in ("/", "/a/b?c=d", "/none"):
    try:
        print(opener.open(f"http://127.0.0.1:{server.server_port}{path}").read())
    except urllib.error.HTTPError as error:
        print(error.code)
server.shutdown()
thread.join()
