"""A Debian with one package and what that needs: installed anew each time, on a base that is there."""

import greenroom

image = greenroom.Image.debian_slim().pip_install("fastapi", force_build=True)
app = greenroom.App("fastapi-image", image=image)


@app.function()
def version():
    import fastapi

    return fastapi.__version__


@app.local_entrypoint()
def main():
    print(version.remote())
