# The upper-casing servers that everybody writes first, for the load tester to try itself on.
import socketserver
import sys


class Stream(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.upper())


class Datagram(socketserver.BaseRequestHandler):
    def handle(self):
        data, server = self.request
        server.sendto(data.upper(), self.client_address)


socketserver.ThreadingTCPServer.request_queue_size = 128
kind = {"tcp": (socketserver.ThreadingTCPServer, Stream), "udp": (socketserver.ThreadingUDPServer, Datagram)}
server_class, handler = kind[sys.argv[1]]
with server_class(("127.0.0.1", 0), handler) as server:
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()
