// A bridge as a competent user would write it: ws, @grpc/grpc-js, @grpc/proto-loader. No limits, no resumption, no
// tokens. It has what makes such a bridge fast: no compression, masks in C, one HTTP/2
// connection, no log.
//
//     node bridge.js TARGET
//
// Prints its port.

'use strict';

const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');
const { WebSocketServer } = require('ws');

const definition = protoLoader.loadSync(path.join(__dirname, '..', 'live.proto'), { keepCase: true });
const { GenerativeService } = grpc.loadPackageDefinition(definition).google.ai.generativelanguage.v1beta;
const model = new GenerativeService(process.argv[2], grpc.credentials.createInsecure());

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, path: '/ws', perMessageDeflate: false });
server.on('listening', () => console.log(server.address().port));

server.on('connection', (client) => {
  let call = null;

  function listen() {
    call.on('data', (response) => {
      const content = response.server_content;
      if (!content) return;
      if (content.input_transcription) {
        client.send(
          JSON.stringify({
            type: 'recognition_result',
            timestamp: Date.now(),
            transcript: content.input_transcription.text,
            confidence: 0,
            isFinal: false,
          }),
        );
      }
      for (const part of content.model_turn?.parts ?? []) {
        const pcm = part.inline_data.data;
        client.send(
          JSON.stringify({
            type: 'audio_response',
            timestamp: Date.now(),
            data: pcm.toString('base64'),
            format: part.inline_data.mime_type,
            duration: pcm.length / 48,
            text: '',
            language: 'en-US',
          }),
        );
      }
    });
    call.on('error', () => client.close(1011));
    call.on('end', () => client.close(1011));
  }

  client.on('message', (data) => {
    const message = JSON.parse(data);
    switch (message.type) {
      case 'auth':
        client.send(JSON.stringify({ type: 'auth_success', timestamp: Date.now(), sessionId: 's', userId: 'u' }));
        break;
      case 'audio_stream_start':
        call = model.BidiGenerateContent();
        listen();
        call.write({ setup: { model: 'models/gemini-live', input_audio_transcription: {} } });
        break;
      case 'audio_chunk': {
        const audio = { mime_type: 'audio/pcm;rate=16000', data: Buffer.from(message.data, 'base64') };
        call.write({ realtime_input: { audio } });
        break;
      }
      case 'audio_stream_end':
        call.write({ realtime_input: { audio_stream_end: true } });
        break;
    }
  });
  client.on('close', () => call?.cancel());
  client.on('error', () => {});
});
