"""What is called. Apart from what measures it, so that a container imports no more than these few lines ask for."""

import greenroom

app = greenroom.App("bench")


@app.cls(max_containers=1)
class One:
    @greenroom.method()
    def echo(self, x):
        return x


@app.cls(max_containers=2)
class Two:
    @greenroom.method()
    def echo(self, x):
        return x


@app.cls()
class Cold:
    key: int = greenroom.parameter()

    @greenroom.method()
    def echo(self, x):
        return x


MANY = 50
many = greenroom.App("many")


@many.cls(min_containers=MANY)
class OfMany:
    @greenroom.method()
    def echo(self, x):
        return x
