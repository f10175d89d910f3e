# An image of a Meltano project with both plugins installed: of your own project, or of this repository (docs/kubernetes.md).
FROM meltano/meltano:v4.4.0-python3.12-slim

# into /project, the working directory of the image; a run installs nothing
COPY . .
RUN UV_NO_CACHE=1 meltano install && rm -rf .meltano/run .meltano/meltano.db && mkdir var && chown 10001:10001 var

# a run writes below /project/var only. A project without an ID would get one, written into meltano.yml.
ENV MELTANO_SYS_DIR_ROOT=/project/var/meltano HOME=/project/var/tmp TMPDIR=/project/var/tmp \
    MELTANO_AUTO_INSTALL=false MELTANO_PROJECT_ID=nosto-dotdigital MELTANO_CLI_DISABLE_VERSION_CHECK=1
USER 10001:10001

# Meltano looks for the installed plugins in its system directory
ENTRYPOINT ["sh", "-ec", "mkdir -p $MELTANO_SYS_DIR_ROOT $TMPDIR; ln -sfn /project/.meltano/*/ $MELTANO_SYS_DIR_ROOT; exec meltano \"$@\"", "meltano"]
CMD ["run", "tap-nosto-segments", "target-dotdigital"]
