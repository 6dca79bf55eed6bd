"""The smallest program on an image of ten steps; what the first run makes, the others find."""

import greenroom

image = greenroom.Image.host()
for number in range(10):
    image = image.run_commands(f"echo {number} > /file-{number}")
app = greenroom.App("hello-image", image=image)


@app.function()
def hello(x):
    return x


@app.local_entrypoint()
def main():
    hello.remote(1)
